// The gateway's own interface: requests with a token where one is asked for, and events that go on after a lost connection.

const TOKEN = "stablediffusiond token";
const RETRY_MILLISECONDS = 1500;

export class Problem extends Error {}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

let asking = null;

// Ask for the token once, however many requests are refused meanwhile.
function askForToken() {
  asking ??= new Promise((resolve) => {
    const dialog = document.querySelector("#token");
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(TOKEN, dialog.querySelector("input").value);
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

export async function send(path, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    const answer = await fetch(path, { ...options, headers });
    if (answer.status === 401) {
      await askForToken();
    } else if (answer.ok) {
      return answer;
    } else {
      const said = await answer.json().catch(() => null);
      const problem = new Problem(said?.error?.message ?? `the gateway answers ${answer.status}`);
      problem.status = answer.status;
      throw problem;
    }
  }
}

export const get = async (path) => (await send(path)).json();

// Random also where a page has no secure context, and so no crypto.randomUUID.
const randomKey = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(16)).join("-");

// A job; sent again with the same key while the gateway, or its broker, is away, so that it is drawn once.
export async function submit(fields) {
  const key = randomKey();
  for (let tries = 1; ; tries += 1) {
    try {
      const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
      const answer = await send("/jobs", { method: "POST", headers, body: JSON.stringify(fields) });
      return await answer.json();
    } catch (error) {
      const mayPass = !(error instanceof Problem) || error.status === 503;
      if (!mayPass || tries === 20) throw error;
      await pause(RETRY_MILLISECONDS);
    }
  }
}

async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}

// The events of a job, to its end.
export async function* events(id) {
  let last = "0";
  for (;;) {
    try {
      const answer = await send(`/jobs/${id}/events`, { headers: { "Last-Event-ID": last } });
      if (answer.status === 204) return;
      let event = {};
      for await (const line of lines(answer.body)) {
        if (line === "" && event.data) {
          if (event.id) last = event.id;
          yield { name: event.event, data: JSON.parse(event.data) };
          if (event.event === "done" || event.event === "failed") return;
          event = {};
        } else if (line !== "" && !line.startsWith(":")) {
          const at = line.indexOf(": ");
          event[line.slice(0, at)] = line.slice(at + 2);
        }
      }
    } catch (error) {
      if (error instanceof Problem && error.status !== 503) throw error;
    }
    await pause(RETRY_MILLISECONDS);
  }
}
