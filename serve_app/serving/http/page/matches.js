// Which objects are one individual by the verdict: their common colour, and a note for each object. Pure.

import { colourAt } from "./colours.js";
import { shown } from "./dom.js";

/** The name of an object on the page: the image's key ("g", "c0", "c1", …) and the object's id. */
export const nameOf = (key, objectId) => `${key}:${objectId}`;

const labelOf = (objectId) => objectId.slice(0, objectId.lastIndexOf("_"));

const WORDS = { merged: "merged", missing: "missing", not_asked: "not asked", unknown: "unknown" };

/**
 * @param {?object} verdict - of the result document.
 * @returns {{colours: Map<string, number[]>, notes: Map<string, string>, groups: Map<string, Set<string>>}} by the
 *   object's name: its individual's colour, a note such as "same 0.88", and the names of all views of the individual
 *   and its match.
 */
export function matchesOf(verdict) {
  const [colours, notes, groups] = [new Map(), new Map(), new Map()];
  let place = verdict?.entities.length ?? 0; // the colours before it are the entities' own
  for (const rows of individuals(verdict).values()) {
    const { match, status } = rows[0];
    const names = new Set(rows.map((row) => nameOf(`c${row.image}`, row.object_id)));
    if (match === null) {
      for (const name of names) notes.set(name, WORDS[status] ?? status);
      continue;
    }
    const relation = status === "different" ? "unlike" : "same";
    const colour = colourAt(place++);
    for (const row of rows) notes.set(nameOf(`c${row.image}`, row.object_id), `${relation} ${shown(row.similarity)}`);
    notes.set(nameOf("g", match), `${relation} ${shown(Math.max(...rows.map((row) => row.similarity)))}`);
    names.add(nameOf("g", match));
    for (const name of names) {
      colours.set(name, colour);
      groups.set(name, names);
    }
  }
  for (const row of verdict?.entities ?? []) {
    if (row.status === "unwanted") for (const id of row.objects) notes.set(nameOf("g", id), "not wanted");
  }
  return { colours, notes, groups };
}

function individuals(verdict) {
  const found = new Map();
  for (const row of verdict?.references ?? []) {
    if (row.object_id === null || row.individual === null) continue;
    const key = JSON.stringify([labelOf(row.object_id), row.individual]);
    found.set(key, [...(found.get(key) ?? []), row]);
  }
  return found;
}
