// What is asked for: the fields, filled from what the service offers, and from jobs that were drawn.

import { picture } from "./painting.js";

const form = document.querySelector("#form");
const loras = document.querySelector("#loras");
const NUMBERS = ["width", "height", "steps", "guidance_scale", "count"];

function fill(select, names, first) {
  const chosen = select.value;
  const known = [...select.options].map((option) => option.value).join();
  if (known === ["", ...names].join()) return;
  select.replaceChildren(new Option(first, ""), ...names.map((name) => new Option(name, name)));
  if (names.includes(chosen)) select.value = chosen;
}

// Let the fields have what the request daemons offer.
export function offer(workers) {
  const offers = workers.map((worker) => worker.offer).filter(Boolean);
  const names = (list) => [...new Set(offers.flatMap(list))];
  const stem = (model) => model.split("/").pop().replace(/\.(safetensors|gguf|ckpt)$/, "");
  fill(form.model, [...new Set(workers.flatMap((worker) => [worker.model, ...(worker.offer?.models ?? [])].map(stem)))], "default");
  fill(form.sampler, names((each) => each.samplers), "default");
  fill(loras, names((each) => (each.loras ?? []).map((lora) => lora.name)), "add …");
  for (const lora of offers.flatMap((each) => each.loras ?? [])) {
    const option = [...loras.options].find((each) => each.value === lora.name);
    option.dataset.triggers = lora.triggers?.slice(0, 3).join(", ") ?? "";
  }
  const first = offers[0];
  if (first) {
    for (const name of ["width", "height", "steps", "guidance_scale"]) form[name].placeholder = first[name];
  }
}

loras.addEventListener("change", () => {
  const option = loras.selectedOptions[0];
  const words = [form.prompt.value.trim(), `<lora:${option.value}:0.8>`, option.dataset.triggers];
  form.prompt.value = words.filter(Boolean).join(" ");
  loras.value = "";
  form.prompt.focus();
});

// The request that the form asks for.
export async function request() {
  const fields = { prompt: form.prompt.value, ...(await picture()) };
  for (const name of ["negative_prompt", "model", "sampler", "seed"]) {
    if (form[name].value.trim()) fields[name] = form[name].value.trim();
  }
  for (const name of NUMBERS) if (form[name].value) fields[name] = Number(form[name].value);
  if (fields.image) fields.strength = Number(form.strength.value);
  return fields;
}

// Fill the form with what was asked for once.
export function use(asked) {
  form.reset();
  for (const [name, value] of Object.entries(asked)) {
    if (form[name] && "value" in form[name]) form[name].value = value;
  }
  form.scrollIntoView({ behavior: "smooth" });
  form.prompt.focus();
}

export const say = (text) => { document.querySelector("#problem").textContent = text; };

export function onDraw(draw) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    draw();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}
