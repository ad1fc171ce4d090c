// Ties the form, the service and the result together.

import { segment, ServiceError } from "./api.js";
import { byId, el } from "./dom.js";
import { EXAMPLES, load } from "./examples.js";
import { Form } from "./form.js";
import { formOf } from "./job.js";
import { Readiness } from "./ready.js";
import { Results } from "./results.js";
import { keepToken, token } from "./token.js";

const MOST_RETRIES = 5; // of a request that the service is too busy for
const PASSING = new Set(["unreachable", "lost", "overloaded"]); // codes of errors after which a second try may succeed

const say = (text) => (byId("said").textContent = text);
const form = new Form();
const results = new Results({ again, said: say });
const readiness = new Readiness({ say: sayReady, token, refused: askForToken });
let running = null; // the AbortController of the request under way
let asksToken = Boolean(token());
let chosen = 0; // a number for each job; an example is dropped if its pictures come after the next job has begun

function sayReady(state, text) {
  byId("ready").className = `ready is-${state}`;
  byId("ready").textContent = text;
}

function askForToken(message) {
  asksToken = true;
  byId("docs").hidden = true; // a link sends no token
  byId("token-box").open = true;
  problem(message);
  byId("token").focus();
}

/** Shows an error in the service's own words; an empty text hides it. */
function problem(message, field = null, retry = null) {
  const box = byId("problem");
  box.replaceChildren();
  box.hidden = !message;
  form.mark(field);
  if (!message) return;
  box.append(el("span", { text: message }));
  if (retry) box.append(" ", el("button", { type: "button", text: "Try again", onclick: retry }));
}

function showProgress(done, all) {
  byId("progress").hidden = false;
  byId("bar").max = all;
  if (done === null) byId("bar").removeAttribute("value");
  else byId("bar").value = done;
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("cancelled", "AbortError"));
    });
  });
}

async function run(job) {
  running?.abort();
  const controller = (running = new AbortController());
  job.asksToken = asksToken;
  const all = job.contextual.length + (job.generated ? 1 : 0);
  const done = new Set();
  problem("");
  byId("cancel").hidden = false;
  byId("result").setAttribute("aria-busy", "true");
  try {
    for (let attempt = 0; ; attempt++) {
      done.clear();
      results.begin(job);
      showProgress(null, all);
      say("Sending the request …");
      try {
        await follow(job, controller.signal, done, all);
        break;
      } catch (error) {
        const busy = error instanceof ServiceError && error.code === "overloaded" && error.retryAfterS !== null;
        if (!busy || attempt === MOST_RETRIES) throw error;
        say(`${error.message}. Trying again in ${error.retryAfterS} s …`);
        await pause(error.retryAfterS, controller.signal);
      }
    }
    if (running === controller) say(`Done: ${done.size} of ${all} images.`);
  } catch (error) {
    if (running === controller) failed(error, job, done.size, all);
  } finally {
    if (running === controller) {
      running = null;
      byId("progress").hidden = true;
      byId("cancel").hidden = true;
      byId("result").removeAttribute("aria-busy");
    }
  }
}

async function follow(job, signal, done, all) {
  for await (const event of segment(formOf(job), token(), signal)) {
    if (event.event === "entities") {
      results.entities(event);
      say(event.entities.length ? `Looking for ${event.entities.join(", ")} …` : "The prompt names nothing to look for.");
      showProgress(0, all);
    } else if (event.event === "image") {
      done.add(`${event.role} ${event.index}`);
      showProgress(done.size, all);
      say(`${done.size} of ${all} images done …`);
      results.image(event);
    } else if (event.event === "result") {
      await results.result(event.result);
    }
  }
}

function failed(error, job, done, all) {
  if (error.name === "AbortError") {
    say("Cancelled.");
    if (done) results.stop("cancelled");
    else results.clear();
    return;
  }
  if (!(error instanceof ServiceError)) {
    problem(`The page has failed: ${error.message}`);
    throw error;
  }
  const lost = error.code === "lost" && done > 0;
  say("");
  if (lost) results.stop("did not arrive");
  else results.clear();
  if (error.status === 401) return askForToken(error.message);
  const arrived = lost ? ` ${done} of ${all} images had arrived; they are shown below, without a verdict.` : "";
  const retry = PASSING.has(error.code) ? () => run(job) : null;
  problem(error.message + arrived, error.field, retry);
  if (error.code === "unreachable") readiness.watch(); // it is not "Ready" any more
}

/** Sends the last job once more, at the sliders' thresholds. */
function again({ all, labels }) {
  const job = results.job;
  run({ ...job, threshold: all, thresholds: Object.fromEntries([...labels].filter(([, value]) => value !== all)) });
}

byId("job").addEventListener("submit", (event) => {
  event.preventDefault();
  chosen++;
  const field = form.unreadable();
  if (field) return problem(`${field}: is not a number`, field);
  run(form.job());
});
byId("cancel").addEventListener("click", () => {
  running?.abort();
  byId("run").focus();
});

function useToken() {
  keepToken(byId("token").value.trim());
  byId("token").value = "";
  byId("token-box").open = false;
  problem("");
  byId("run").focus();
  readiness.watch();
}

byId("token-save").addEventListener("click", useToken);
byId("token").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault(); // it would send the job
  useToken();
});

for (const example of EXAMPLES) {
  const button = el("button", { type: "button", text: example.title });
  button.addEventListener("click", async () => {
    const mine = ++chosen;
    try {
      const loaded = await load(example);
      if (mine !== chosen) return;
      form.fill(loaded);
    } catch (error) {
      return mine === chosen ? problem(error.message) : undefined;
    }
    await run(form.job());
  });
  byId("examples").append(button);
}
byId("docs").hidden = asksToken;
readiness.watch();
