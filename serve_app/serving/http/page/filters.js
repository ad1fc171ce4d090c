// The sliders above the pictures, and a note if they differ from the request's thresholds.

import { css } from "./colours.js";
import { el, shown } from "./dom.js";
import { askedFor, below, moved, setFor } from "./filter.js";

/** Thresholds, labels on or off, entities shown or hidden. */
export class Filters {
  /**
   * @param {HTMLElement} root
   * @param {{changed: function(), again: ?function(import("./filter.js").Thresholds)}} options - `again` asks for a new
   *   request at the sliders' thresholds; null where there is no service.
   */
  constructor(root, { changed, again }) {
    Object.assign(this, { root, changed, again });
    this.begin();
  }

  /** Forgets everything. */
  begin() {
    this.thresholds = { all: 0, labels: new Map() };
    this.hidden = new Set();
    this.labels = true;
    this.meta = null;
    this.root.hidden = true;
  }

  /**
   * Shows the controls of a result.
   *
   * @param {object} document_ - the result.
   * @param {Map<string, number[]>} colours - of its entities.
   */
  show(document_, colours) {
    this.meta = document_.meta;
    this.entities = document_.entities;
    this.thresholds = { all: this.meta.threshold, labels: new Map(Object.entries(this.meta.thresholds)) };
    this.rows = new Map();
    this.note = el("p", { class: "note", role: "status" });
    const labels = el("input", { type: "checkbox", checked: true, id: "labels", onchange: () => this.set(() => (this.labels = labels.checked)) });
    this.all = this.slider("Threshold of all entities", this.meta.threshold, (value) => (this.thresholds.all = value));
    const reset = el("button", { type: "button", text: "Reset", onclick: () => this.reset() });
    const general = el("div", { class: "general" }, el("span", { class: "row" }, "Threshold ", this.all.element), el("label", { class: "check" }, labels, " Labels"), reset);
    const each = this.entities.map((entity) => this.entityRow(entity, colours.get(entity)));
    const own = el("details", { class: "each", open: this.entities.length <= 8 }, el("summary", { text: "Entities" }), el("ul", {}, ...each));
    this.root.replaceChildren(general, own, this.note);
    this.root.hidden = false;
    this.follow();
  }

  /** Tells whether the objects of an entity are shown. */
  shows = (label) => !this.hidden.has(label);

  reset() {
    this.set(() => {
      this.thresholds = { all: this.meta.threshold, labels: new Map(Object.entries(this.meta.thresholds)) };
    });
  }

  slider(label, value, take) {
    const output = el("output", { text: shown(value) });
    const input = el("input", { type: "range", min: "0", max: "1", step: "0.01", "aria-label": label });
    input.value = value;
    input.addEventListener("input", () => this.set(() => take(Number(input.value))));
    return { element: el("span", { class: "slider" }, input, output), input, output };
  }

  entityRow(entity, colour) {
    const swatch = el("span", { class: "swatch" });
    swatch.style.backgroundColor = css(colour);
    const check = el("input", { type: "checkbox", checked: true, "aria-label": `Show ${entity}` });
    check.addEventListener("change", () => this.set(() => this.hidden[check.checked ? "delete" : "add"](entity)));
    const slider = this.slider(`Threshold of ${entity}`, askedFor(this.meta, entity), (value) => this.thresholds.labels.set(entity, value));
    this.rows.set(entity, slider);
    return el("li", {}, el("label", { class: "check" }, check, swatch, el("span", { text: entity })), slider.element);
  }

  set(change) {
    change();
    this.follow();
    this.changed();
  }

  /** Sets the sliders to the thresholds, and says which ones differ from the request's. */
  follow() {
    const put = ({ input, output }, value) => {
      if (Number(input.value) !== value) input.value = value;
      output.textContent = shown(value);
    };
    put(this.all, this.thresholds.all);
    for (const [entity, slider] of this.rows) put(slider, setFor(this.thresholds, entity));
    const parts = [];
    if (moved(this.entities, this.thresholds, this.meta).length) {
      const lower = below(this.entities, this.thresholds, this.meta);
      parts.push("The sliders change the pictures only. The answer and its verdict are for the request's thresholds.");
      if (lower.length) parts.push(` Objects of ${lower.join(", ")} below the request's thresholds are not in the answer.`);
      if (this.again) parts.push(" ", el("button", { type: "button", text: "Ask again at these thresholds", onclick: () => this.again(this.thresholds) }));
    }
    this.note.replaceChildren(...parts);
  }
}
