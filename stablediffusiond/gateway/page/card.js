// One job in the gallery: what it looks like so far, what came of it, and what may be done with it.

import { Problem, events, send } from "./api.js";
import { say } from "./form.js";
import * as snippets from "./snippets.js";

const template = document.querySelector("#card");
const FACTS = ["model", "seed", "width", "height", "steps", "guidance_scale", "sampler", "strength", "negative_prompt"];

// Addresses are of this gateway, by whatever name this page has it.
const here = (url) => { const parsed = new URL(url); return parsed.pathname + parsed.search; };

export class Card {
  constructor(job, { drawAgain, use }) {
    this.job = job;
    this.element = template.content.firstElementChild.cloneNode(true);
    this.element.dataset.id = job.id;
    this.part = (name) => this.element.querySelector(name);
    this.part(".prompt").textContent = job.request.prompt ?? "";
    this.part(".cancel").addEventListener("click", () => this.remove("cancelling"));
    this.part(".actions").addEventListener("click", (event) => {
      const what = event.target.dataset.do;
      if (what === "again") drawAgain(job);
      else if (what === "use") use(snippets.plain(job));
      else if (what === "delete") this.remove("deleting");
      else if (what) this.copy(event.target, snippets[what](job));
    });
    job.images.forEach((image) => this.showImage(image));
    if (job.state === "done" || job.state === "failed") this.end(job);
    else this.follow();
  }

  async follow() {
    this.state(this.job.state === "drawing" ? "drawing" : "waiting");
    try {
      for await (const { name, data } of events(this.job.id)) {
        if (name === "progress") this.progress(data);
        else if (name === "preview") this.showPreview(data);
        else if (name === "image") this.showImage(data);
        else this.end(data);
      }
    } catch (error) {
      this.state(error.message, "failed");
    }
  }

  progress({ step, steps }) {
    this.part("progress").value = step / steps;
    this.state(`${Math.round(100 * step / steps)} %`);
  }

  picture(index) {
    let image = this.element.querySelector(`img[data-index="${index}"]`);
    if (!image) {
      image = document.createElement("img");
      image.dataset.index = index;
      const link = document.createElement("a");
      link.append(image);
      this.part(".pictures").append(link);
    }
    return image;
  }

  showPreview({ index, image }) {
    const shown = this.picture(index);
    if (shown.closest("a").hasAttribute("href")) return;
    shown.src = image;
    shown.alt = "what it looks like so far";
    shown.className = "preview";
  }

  showImage(image) {
    const shown = this.picture(image.index);
    shown.src = here(image.url);
    shown.alt = image.prompt || "an enlarged picture";
    shown.className = "";
    shown.width = image.width;
    shown.height = image.height;
    shown.closest("a").href = here(image.url);
    this.facts ??= image;
    const facts = FACTS.filter((name) => this.facts[name] !== undefined && this.facts[name] !== "");
    this.part("dl").replaceChildren(...facts.flatMap((name) => {
      const [term, value] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = name.replaceAll("_", " ");
      value.textContent = this.facts[name];
      return [term, value];
    }));
  }

  end({ error, warnings = [], total_seconds: seconds }) {
    this.part("progress").hidden = true;
    this.part(".cancel").hidden = true;
    this.element.querySelectorAll("img.preview").forEach((image) => image.closest("a").remove());
    const said = error ? error.message : [`${(seconds ?? 0).toFixed(1)} s`, ...warnings].join(" · ");
    this.state(said, error ? "failed" : "");
    this.part(".bar").classList.add("over");
  }

  state(text, kind = "") {
    this.part(".state").textContent = text;
    this.part(".bar").classList.toggle("failed", kind === "failed");
  }

  async remove(doing) {
    this.state(doing);
    try {
      const answer = await send(`/jobs/${this.job.id}`, { method: "DELETE" });
      if (answer.status === 204) this.element.remove();
    } catch (error) {
      if (error instanceof Problem && error.status === 404) this.element.remove();
      else say(error.message);
    }
  }

  async copy(button, text) {
    const label = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      window.prompt("Copy this:", text);
    }
    setTimeout(() => { button.textContent = label; }, 1500);
  }
}
