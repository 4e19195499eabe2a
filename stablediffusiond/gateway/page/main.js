// The page: the form on one side, what was drawn on the other, and how the service is above.

import { Problem, get, submit } from "./api.js";
import { Card } from "./card.js";
import { offer, onDraw, request, say, use } from "./form.js";
import { needsPictures, plain } from "./snippets.js";

const gallery = document.querySelector("#gallery");
const more = document.querySelector("#more");
const service = document.querySelector("#service");
const STATUS_MILLISECONDS = 4000;
const A_PAGE = 24;

const card = (job) => new Card(job, { drawAgain, use }).element;

async function draw(fields) {
  say("");
  try {
    gallery.prepend(card(await submit(fields)));
  } catch (error) {
    say(error.message);
  }
}

// The same once more, with another seed.
function drawAgain(job) {
  const { seed, ...fields } = plain(job);
  if (needsPictures(job)) {
    use(fields);
    say("It began with an image, which is not kept: give it again, and draw.");
  } else {
    draw(fields);
  }
}

async function older() {
  const last = gallery.lastElementChild?.dataset.id;
  const { jobs } = await get(`/jobs?limit=${A_PAGE}${last ? `&before=${last}` : ""}`);
  gallery.append(...jobs.map(card));
  more.hidden = jobs.length < A_PAGE;
}

async function watch() {
  for (;;) {
    try {
      const status = await get("/status");
      const waiting = ["high", "normal", "low"].reduce((sum, each) => sum + (status.queues[each]?.messages ?? 0), 0);
      const drawing = status.workers.map((worker) => {
        const begun = worker.jobs.filter((job) => job.state === "drawing").length;
        return `${worker.host} (${worker.device}): ${worker.paused ?? `${begun} drawing`}`;
      });
      service.textContent = [`${waiting} waiting`, ...(drawing.length ? drawing : ["nobody draws"])].join(" · ");
      offer(status.workers);
    } catch (error) {
      service.textContent = error instanceof Problem ? error.message : "the gateway is away; trying on";
    }
    await new Promise((resolve) => setTimeout(resolve, STATUS_MILLISECONDS));
  }
}

onDraw(async () => draw(await request()));
more.addEventListener("click", older);
watch();
older().catch((error) => say(error.message));
