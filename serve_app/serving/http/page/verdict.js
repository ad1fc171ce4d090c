// The verdict as tables whose rows highlight their objects.

import { el, shown } from "./dom.js";
import { nameOf } from "./matches.js";

const ANSWER = { true: ["✓ Arrived", "good"], false: ["✗ Did not arrive", "bad"], null: ["? Could not be told", "open"] };
const GOOD = new Set(["ok", "arrived"]);
const OPEN = new Set(["unknown", "not_asked"]);
const STATUS = { too_few: "too few", too_many: "too many", unwanted: "must not be there", not_asked: "not asked" };

const kindOf = (status) => (GOOD.has(status) ? "good" : OPEN.has(status) ? "open" : "bad");
const sign = { good: "✓", bad: "✗", open: "?" };

function asked({ asked, exact }) {
  if (asked === null) return "any";
  if (asked === 0) return "none";
  return exact ? String(asked) : `at least ${asked}`;
}

function said({ status, bare }) {
  return status === "other_attribute" && bare ? `${bare.found} for “${bare.entity}” alone` : (STATUS[status] ?? status);
}

function inThePrompt({ asked_as: words, sources }) {
  const from = sources.length ? ` (reference ${sources.map((each) => each + 1).join(", ")})` : "";
  return words === null ? "not named" + from : `“${words}”${from}`;
}

/**
 * @param {object} verdict - of the result document.
 * @param {object} document_ - the whole of it.
 * @param {function(?Set<string>)} bringOut - is given the names of a row's objects, or null when the row is left.
 * @returns {Node[]}
 */
export function verdictView(verdict, document_, bringOut) {
  const [words, kind] = ANSWER[String(verdict.arrived)];
  const nodes = [el("h2", {}, "Verdict: ", el("strong", { class: `answer ${kind}`, data: { arrived: String(verdict.arrived) }, text: words }))];
  if (verdict.reasons.length) {
    nodes.push(el("ul", { class: "reasons", "aria-label": "Reasons" }, ...verdict.reasons.map((text) => el("li", { text }))));
  }
  const entities = verdict.entities.map((row) => {
    const name = twoLines(row.entity, inThePrompt(row));
    const cells = [name, asked(row), row.found === null ? "unknown" : String(row.found), statusCell(row.status, said(row))];
    return tableRow(ENTITY_HEADS, cells, entityObjects(row, document_), bringOut);
  });
  nodes.push(table("What was asked and found", ENTITY_HEADS, entities));
  const references = verdict.references.map((row) => {
    const image = row.image === null ? "not given" : `reference ${row.image + 1}`;
    const margin = row.margin === null ? "no other to compare" : `margin ${shown(row.margin)}`;
    const similarity = row.similarity === null ? "–" : twoLines(shown(row.similarity), margin);
    const status = statusCell(row.status, STATUS[row.status] ?? row.status);
    const cells = [twoLines(row.object_id ?? "–", image), row.match ?? "–", similarity, status];
    const names = [row.object_id && nameOf(`c${row.image}`, row.object_id), row.match && nameOf("g", row.match)];
    return tableRow(REFERENCE_HEADS, cells, new Set(names.filter(Boolean)), bringOut);
  });
  if (references.length) nodes.push(table("Is it the same one?", REFERENCE_HEADS, references));
  nodes.push(...notes(verdict));
  return nodes;
}

const ENTITY_HEADS = ["Entity", "Asked", "Found", "Status"];
const REFERENCE_HEADS = ["Object", "Generated", "Similarity", "Status"];

const twoLines = (first, second) => el("span", {}, first, " ", el("small", { text: second }));

function notes({ scores, overlaps, identity }) {
  const share = (value) => (value === null ? "not judged" : shown(value));
  const said_ = [`Entities ${share(scores.entities)}, identity ${share(scores.identity)}, collapsed ${share(scores.collapsed)}`];
  said_.push(identity ? `compared with ${identity.model}, the same individual from a similarity of ${shown(identity.threshold)}` : "individuals were not compared");
  for (const { image, objects, iou } of overlaps) said_.push(`${image}: ${objects.join(" and ")} overlap (IoU ${shown(iou)})`);
  return [el("p", { class: "small", text: `${said_.join("; ")}.` })];
}

/** The generated image's objects of an entity, and those of its label in the references. */
function entityObjects(row, document_) {
  const names = new Set(row.objects.map((id) => nameOf("g", id)));
  document_.contextual_images.forEach((image, index) => {
    for (const { label, object_id: id } of image.objects ?? []) if (label === row.entity) names.add(nameOf(`c${index}`, id));
  });
  return names;
}

function statusCell(status, text) {
  const kind = kindOf(status);
  return el("span", { class: `status ${kind}`, data: { status } }, `${sign[kind]} ${text}`);
}

function table(caption, heads, rows) {
  const head = el("thead", {}, el("tr", {}, ...heads.map((text) => el("th", { scope: "col", text }))));
  return el("table", {}, el("caption", { text: caption }), head, el("tbody", {}, ...rows));
}

function tableRow(heads, cells, names, bringOut) {
  const enter = () => bringOut(names);
  const leave = () => bringOut(null);
  const listeners = { onmouseenter: enter, onmouseleave: leave, onfocus: enter, onblur: leave };
  const made = cells.map((cell, place) => el(place ? "td" : "th", { scope: place ? null : "row", data: { head: heads[place] } }, cell));
  return el("tr", { tabindex: "0", ...listeners }, ...made);
}
