// The image to begin with, and the mask that is painted on it: white where it is drawn anew.

const zone = document.querySelector("#image");
const painting = document.querySelector("#painting");
const chooser = zone.querySelector("input");
const shown = painting.querySelector("img");
const canvas = painting.querySelector("canvas");
const brush = document.querySelector("#brush");
const context = canvas.getContext("2d");

let file = null;
let painted = false;
let last = null;

function show(next) {
  if (!next?.type.startsWith("image/")) return;
  file = next;
  URL.revokeObjectURL(shown.src);
  shown.src = URL.createObjectURL(file);
  zone.hidden = true;
  painting.hidden = false;
}

shown.addEventListener("load", () => {
  canvas.width = shown.naturalWidth;
  canvas.height = shown.naturalHeight;
  painted = false;
});

zone.addEventListener("click", () => chooser.click());
zone.addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === " ") chooser.click();
});
chooser.addEventListener("change", () => show(chooser.files[0]));
document.addEventListener("paste", (event) => show([...event.clipboardData.files][0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  zone.classList.add("over");
});
document.addEventListener("dragleave", () => zone.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  zone.classList.remove("over");
  show(event.dataTransfer.files[0]);
});

const place = (event) => {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
};

function stroke(event) {
  const [x, y] = place(event);
  context.strokeStyle = "#fff";
  context.lineCap = "round";
  context.lineWidth = brush.value * canvas.width / 512;
  context.beginPath();
  context.moveTo(...(last ?? [x, y]));
  context.lineTo(x, y);
  context.stroke();
  last = [x, y];
  painted = true;
}

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  stroke(event);
});
canvas.addEventListener("pointermove", (event) => {
  if (event.buttons) stroke(event);
});
canvas.addEventListener("pointerup", () => { last = null; });

function wipe() {
  context.clearRect(0, 0, canvas.width, canvas.height);
  painted = false;
}

document.querySelector("#unpaint").addEventListener("click", wipe);
document.querySelector("#remove").addEventListener("click", () => {
  file = null;
  chooser.value = "";
  wipe();
  painting.hidden = true;
  zone.hidden = false;
  zone.focus();
});

const dataUrl = (blob) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(blob);
});

// The fields of a request that begins with an image; none without one.
export async function picture() {
  if (!file) return {};
  const fields = { image: await dataUrl(file) };
  if (painted) {
    const mask = new OffscreenCanvas(canvas.width, canvas.height);
    const drawing = mask.getContext("2d");
    drawing.fillRect(0, 0, mask.width, mask.height);
    drawing.drawImage(canvas, 0, 0);
    fields.mask = await dataUrl(await mask.convertToBlob({ type: "image/png" }));
  }
  return fields;
}
