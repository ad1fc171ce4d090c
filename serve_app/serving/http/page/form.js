// The form, and the job that the user has entered in it.

import { byId } from "./dom.js";
import { pictureOf } from "./job.js";
import { Pictures } from "./pictures.js";

const FIELDS = { prompt: "prompt", entities: "entities", threshold: "threshold", mask_threshold: "mask-threshold", verdict: "verdict" };
const NUMBERS = ["threshold", "mask_threshold"];

/** The part of the page above the result. */
export class Form {
  constructor() {
    const references = new Pictures(byId("references"), { many: true, name: "reference image", surplus: () => {} });
    const surplus = (files) => references.add(files);
    const generated = new Pictures(byId("generated"), { many: false, name: "generated image", surplus });
    this.zones = { references, generated };
    this.last = references; // where pasted images go
    for (const zone of Object.values(this.zones)) {
      for (const kind of ["focusin", "pointerdown"]) zone.zone.addEventListener(kind, () => (this.last = zone));
    }
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => {
      event.preventDefault(); // or the browser would open the picture in place of the page
      references.add([...(event.dataTransfer?.files ?? [])]);
    });
    document.addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      const isText = event.target.closest?.("input, textarea") && event.clipboardData?.types.includes("text/plain");
      if (!files.length || isText) return; // office programs copy a picture of the text, too
      event.preventDefault();
      this.last.add(files);
    });
  }

  /** Names a number field whose text is not a number; null if there is none. */
  unreadable() {
    return NUMBERS.find((name) => byId(FIELDS[name]).validity.badInput) ?? null;
  }

  /** Reads the form. */
  job() {
    const number = (id) => (byId(id).value.trim() === "" ? null : byId(id).valueAsNumber);
    return {
      prompt: byId("prompt").value,
      entities: byId("entities").value.split("\n").map((line) => line.trim()).filter(Boolean),
      contextual: [...this.zones.references.files],
      generated: this.zones.generated.files[0] ?? null,
      threshold: number("threshold"),
      maskThreshold: number("mask-threshold"),
      thresholds: {},
      verdict: byId("verdict").checked,
    };
  }

  /** Fills in an example and its options. */
  fill({ prompt, entities, contextual, generated }) {
    byId("prompt").value = prompt;
    byId("entities").value = entities.join("\n");
    if (entities.length) byId("options").open = true;
    for (const name of NUMBERS) byId(FIELDS[name]).value = "";
    byId("verdict").checked = true;
    this.zones.references.set(contextual);
    this.zones.generated.set(generated ? [generated] : []);
  }

  /** Marks the field or image that an error names; null removes the marks. */
  mark(field) {
    const picture = pictureOf(field);
    for (const [name, zone] of Object.entries(this.zones)) zone.mark(picture?.zone === name ? picture.index : null);
    const name = (field ?? "").split(/[.[]/)[0];
    for (const [known, id] of Object.entries(FIELDS)) {
      if (known === name) byId(id).setAttribute("aria-invalid", "true");
      else byId(id).removeAttribute("aria-invalid");
    }
    if (FIELDS[name] && name !== "prompt") byId("options").open = true;
  }
}
