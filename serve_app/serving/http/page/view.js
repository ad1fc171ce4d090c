// The page of `genseg view`: one row of a batch at a time; arrow keys go to the next and previous row.

import { address } from "./api.js";
import { byId, el } from "./dom.js";
import { Results } from "./results.js";
import { STATUS, wantedRows } from "./rows.js";

const ANY = ""; // of a choice: every row
const say = (text) => (byId("said").textContent = text);
const results = new Results({ again: null, said: say });
let all = [];
let wanted = [];
let place = 0; // among the wanted rows
let showing = 0; // a number for each row shown; an older one ends when it sees a newer

function problem(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

async function fetched(route) {
  const response = await fetch(address(route)).catch(() => null);
  if (response === null) throw new Error("genseg view has ended.");
  if (!response.ok) throw new Error((await response.json()).error.message);
  return response;
}

/** A picture as a file, or why there is none. */
async function picture(row, role, index, image, unseen) {
  try {
    const response = await fetched(`rows/${row.place}/${role}/${index}`);
    return new File([await response.blob()], image.path);
  } catch (error) {
    const file = new File([], image.path);
    unseen.set(file, error.message);
    return file;
  }
}

async function show() {
  const mine = ++showing;
  const row = wanted[place];
  byId("previous").disabled = place <= 0;
  byId("next").disabled = place >= wanted.length - 1;
  problem("");
  byId("prompt").hidden = true;
  if (!row) {
    results.clear();
    return say(`No row of ${all.length} matches the filters.`);
  }
  byId("row").value = String(place);
  say(`Row ${place + 1} of ${wanted.length}${wanted.length < all.length ? ` (${all.length} in all)` : ""}: ${row.id}, ${STATUS[row.status]}.`);
  if (row.status === "failed") {
    results.clear();
    return problem(`${row.error.code}: ${row.error.message}`);
  }
  try {
    const document_ = await (await fetched(`rows/${row.place}/document.json`)).json();
    const unseen = new Map();
    const { contextual_images: references, generated_image: last } = document_;
    const contextual = await Promise.all(references.map((image, index) => picture(row, "contextual", index, image, unseen)));
    const generated = last && (await picture(row, "generated", 0, last, unseen));
    if (mine !== showing) return;
    byId("prompt").textContent = document_.prompt;
    byId("prompt").hidden = !document_.prompt;
    results.begin({ contextual, generated, unseen, stored: true });
    await results.result(document_);
  } catch (error) {
    if (mine === showing) problem(error.message);
  }
}

function go(by) {
  const next = place + by;
  if (next < 0 || next >= wanted.length) return;
  place = next;
  show();
}

function choose() {
  const number = (id) => (byId(id).value.trim() === "" ? null : byId(id).valueAsNumber);
  const choice = (id) => (byId(id).value === ANY ? null : JSON.parse(byId(id).value));
  const before = wanted[place];
  const bounds = { score: byId("score").value, least: number("least"), most: number("most") };
  wanted = wantedRows(all, { status: choice("status"), group: choice("group"), ...bounds });
  place = Math.max(0, wanted.indexOf(before));
  byId("row").replaceChildren(...wanted.map((row, index) => el("option", { value: String(index), text: `${row.id} · ${STATUS[row.status]}` })));
  show();
}

function options(id, values, text) {
  const made = values.map((value) => el("option", { value: JSON.stringify(value), text: text(value) }));
  byId(id).replaceChildren(el("option", { value: ANY, text: "any" }), ...made);
}

for (const id of ["status", "group", "score", "least", "most"]) byId(id).addEventListener("change", choose);
byId("rows").addEventListener("submit", (event) => event.preventDefault());
byId("previous").addEventListener("click", () => go(-1));
byId("next").addEventListener("click", () => go(1));
byId("row").addEventListener("change", () => {
  place = Number(byId("row").value);
  show();
});
document.addEventListener("keydown", (event) => {
  const types = event.target.closest?.("input, select, textarea"); // arrows mean something else there
  if (types || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "ArrowLeft") go(-1);
  if (event.key === "ArrowRight") go(1);
});

try {
  const listed = await (await fetched("rows.json")).json();
  all = listed.rows;
  byId("source").textContent = listed.name;
  options("status", [...new Set(all.map((row) => row.status))].sort(), (status) => STATUS[status]);
  options("group", [...new Set(all.map((row) => row.group))].sort(), (group) => group || "(none)");
  choose();
  if (listed.notes.length) problem(`No pictures: ${listed.notes.join("; ")}.`);
} catch (error) {
  problem(error.message);
}
