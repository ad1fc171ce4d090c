// The result: a viewer for each image as it arrives, then verdict, filters and downloads.

import { address } from "./api.js";
import { colourAt } from "./colours.js";
import { byId, el } from "./dom.js";
import { saveCutOuts, saveJson, savePicture } from "./downloads.js";
import { passes } from "./filter.js";
import { Filters } from "./filters.js";
import { Masks } from "./masks.js";
import { matchesOf, nameOf } from "./matches.js";
import { curl, python } from "./snippets.js";
import { verdictView } from "./verdict.js";
import { Viewer } from "./viewer.js";

/** The part of the page below the form. */
export class Results {
  /** @param {{again: ?function(object), said: function(string)}} options - see Filters; `said` is told what was done. */
  constructor({ again, said }) {
    this.said = said;
    this.masks = new Masks();
    this.viewers = new Map(); // "c0", "c1", …, "g"
    this.filters = new Filters(byId("filters"), { changed: () => this.restyle(), again });
    this.clear();
  }

  clear() {
    for (const viewer of this.viewers.values()) viewer.close();
    this.viewers.clear();
    this.document = null;
    this.matches = matchesOf(null);
    this.colours = new Map();
    this.pinned = null;
    this.filters.begin();
    for (const id of ["verdict-box", "pictures", "dropped", "take"]) byId(id).hidden = true;
    byId("nothing").hidden = false;
  }

  /** Shows a job's images before anything is known about them. */
  begin(job) {
    this.clear();
    this.job = job;
    byId("nothing").hidden = true;
    job.contextual.forEach((file, index) => this.addViewer(`c${index}`, file, `Reference ${index + 1}: ${file.name}`));
    if (job.generated) this.addViewer("g", job.generated, `Generated: ${job.generated.name}`);
    const left = job.contextual.map((_, index) => this.viewers.get(`c${index}`).element);
    byId("left").replaceChildren(...left);
    byId("left").classList.toggle("many", left.length > 2);
    byId("right").replaceChildren(...(job.generated ? [this.viewers.get("g").element] : []));
    byId("pictures").classList.toggle("one", !left.length || !job.generated);
    byId("left").parentElement.hidden = !left.length;
    byId("right").parentElement.hidden = !job.generated;
    byId("pictures").hidden = false;
  }

  addViewer(key, file, title) {
    const work = (text, action) => {
      const button = el("button", { type: "button", text, "aria-label": `${text}: ${title}` });
      button.addEventListener("click", async () => {
        button.disabled = true;
        try {
          if ((await action()) === 0) this.said("There is no object to cut out.");
        } catch {
          this.said(`${title}: the browser could not make the file.`);
        }
        button.disabled = false;
      });
      return button;
    };
    const viewer = new Viewer(this.masks, file, {
      title,
      hovered: (id) => this.bringOut(id === null ? null : this.related(nameOf(key, id))),
      picked: (id) => this.pick(nameOf(key, id)),
      unseen: this.job.unseen?.get(file),
      buttons: [work("Annotated PNG", () => savePicture(viewer)), work("Cut-outs", () => saveCutOuts(viewer))],
    });
    this.viewers.set(key, viewer);
    this.style(key, viewer);
  }

  /** Takes the `entities` event. */
  entities({ entities, dropped }) {
    this.colours = new Map(entities.map((entity, place) => [entity, colourAt(place)]));
    const box = byId("dropped");
    box.hidden = !dropped.length;
    const rows = dropped.map(({ entity, reason }) => el("li", {}, el("strong", { text: entity }), `: ${reason}`));
    box.replaceChildren(el("h2", { text: "Not looked for" }), el("ul", {}, ...rows));
  }

  /** Takes an `image` event. */
  image({ role, index, image }) {
    return this.viewers.get(role === "generated" ? "g" : `c${index}`)?.setImage(image);
  }

  /** Takes the whole document. */
  async result(document_) {
    this.document = document_;
    this.matches = matchesOf(document_.verdict);
    this.entities({ entities: document_.entities, dropped: document_.meta.dropped });
    this.filters.show(document_, this.colours);
    const verdict = byId("verdict-box");
    verdict.hidden = document_.verdict === null;
    const nodes = document_.verdict ? verdictView(document_.verdict, document_, (names) => this.bringOut(names)) : [];
    verdict.replaceChildren(...nodes);
    this.take();
    for (const [key, viewer] of this.viewers) this.style(key, viewer);
    const images = document_.contextual_images.map((image, index) => [`c${index}`, image]);
    if (document_.generated_image) images.push(["g", document_.generated_image]);
    await Promise.all(images.map(([key, image]) => this.viewers.get(key)?.setImage(image)));
  }

  /** Says why the remaining images will not arrive. */
  stop(text) {
    for (const viewer of this.viewers.values()) viewer.stop(text);
  }

  style(key, viewer) {
    viewer.restyle({
      labels: this.filters.labels,
      passes: (object) =>
        this.filters.shows(object.label) && (!this.filters.meta || passes(object, this.filters.thresholds, this.filters.meta)),
      colour: (object) =>
        this.matches.colours.get(nameOf(key, object.object_id)) ?? this.colours.get(object.label) ?? colourAt(0),
      note: (id) => this.matches.notes.get(nameOf(key, id)) ?? "",
    });
  }

  restyle() {
    for (const [key, viewer] of this.viewers) this.style(key, viewer);
  }

  related = (name) => this.matches.groups.get(name) ?? new Set([name]);

  pick(name) {
    this.pinned = this.pinned?.has(name) ? null : this.related(name);
    this.bringOut(this.pinned);
  }

  /** Highlights objects in all pictures; null highlights the ones that were picked by a click. */
  bringOut(names) {
    const wanted = names ?? this.pinned;
    for (const [key, viewer] of this.viewers) {
      const mine = [...(wanted ?? [])].filter((name) => name.startsWith(`${key}:`)).map((name) => name.slice(key.length + 1));
      viewer.highlight(wanted === null ? null : new Set(mine));
    }
  }

  /** Shows the downloads: the document, and the request as a program. */
  take() {
    const service = address(".").replace(/\/$/, "");
    const json = el("button", { type: "button", text: "Download JSON", id: "json", onclick: () => saveJson(this.document) });
    const program = (title, id, text) => {
      const copy = el("button", { type: "button", text: "Copy", "aria-label": `Copy ${title}` });
      copy.addEventListener("click", () => this.copy(text, title));
      return el("details", {}, el("summary", { text: title }), copy, el("pre", { id, tabindex: "0", text }));
    };
    const programs = this.job.stored
      ? []
      : [
          program("This request as curl", "curl", curl(this.job, service, this.job.asksToken)),
          program("This request as Python", "python", python(this.job, service, this.job.asksToken)),
        ];
    byId("take").replaceChildren(el("h2", { text: "Download" }), json, ...programs);
    byId("take").hidden = false;
  }

  async copy(text, title) {
    try {
      await navigator.clipboard.writeText(text);
      this.said(`${title}: copied.`);
    } catch {
      this.said(`${title}: the browser does not allow copying; select the text.`);
    }
  }
}
