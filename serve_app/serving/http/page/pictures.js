// A list of chosen images: choose, drop, remove, reorder. Its order is the order of the request.

import { el } from "./dom.js";

/** One zone of the form. */
export class Pictures {
  /**
   * @param {HTMLElement} zone - holds the file input and the list.
   * @param {{many: boolean, name: string, surplus: function(File[])}} options - `name` is what an image is called in
   *   buttons; `surplus` gets the files beyond the first in a zone for one image.
   */
  constructor(zone, { many, name, surplus }) {
    Object.assign(this, { zone, many, name, surplus });
    this.files = [];
    this.urls = new Map();
    this.list = zone.querySelector(".thumbs");
    const input = zone.querySelector("input[type=file]");
    input.addEventListener("change", () => {
      this.add([...input.files]);
      input.value = ""; // so that the same file can be chosen again
    });
    zone.addEventListener("dragover", (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
    zone.addEventListener("dragleave", () => zone.classList.remove("over"));
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      event.stopPropagation();
      zone.classList.remove("over");
      this.add([...event.dataTransfer.files]);
    });
  }

  /** Adds files; in a zone for one image the first file replaces the old one. */
  add(files) {
    if (!files.length) return;
    if (this.many) this.set([...this.files, ...files]);
    else {
      this.set(files.slice(0, 1));
      if (files.length > 1) this.surplus(files.slice(1));
    }
  }

  /** Replaces all files. */
  set(files) {
    this.files = files;
    for (const [file, url] of this.urls) {
      if (files.includes(file)) continue;
      URL.revokeObjectURL(url);
      this.urls.delete(file);
    }
    this.list.replaceChildren(...files.map((file, place) => this.thumb(file, place)));
  }

  /** Marks the image that an error names; null for none. */
  mark(place) {
    [...this.list.children].forEach((item, index) => item.classList.toggle("wrong", index === place));
  }

  thumb(file, place) {
    if (!this.urls.has(file)) this.urls.set(file, URL.createObjectURL(file));
    const called = this.many ? `${this.name} ${place + 1}` : this.name;
    const button = (sign, label, disabled, onclick) =>
      el("button", { type: "button", "aria-label": `${label} (${file.name})`, title: label, disabled, onclick }, sign);
    const moves = this.many
      ? [
          button("↑", `Move ${called} up`, place === 0, () => this.move(place, -1)),
          button("↓", `Move ${called} down`, place === this.files.length - 1, () => this.move(place, 1)),
        ]
      : [];
    return el(
      "li",
      {},
      el("img", { src: this.urls.get(file), alt: "" }),
      el("span", { class: "name", text: this.many ? `${place + 1}: ${file.name}` : file.name }),
      el("span", { class: "moves" }, ...moves, button("✕", `Remove ${called}`, false, () => this.remove(place))),
    );
  }

  move(place, by) {
    const files = [...this.files];
    [files[place], files[place + by]] = [files[place + by], files[place]];
    this.set(files);
    this.focus(place + by, by < 0 ? 0 : 1);
  }

  remove(place) {
    this.set(this.files.filter((_, index) => index !== place));
    this.focus(Math.min(place, this.files.length - 1), -1);
  }

  /** Keeps the keyboard focus after the list was rebuilt. */
  focus(place, button) {
    const buttons = [...(this.list.children[place]?.querySelectorAll("button") ?? [])];
    const wanted = buttons.at(button);
    (wanted && !wanted.disabled ? wanted : (buttons.at(-1) ?? this.zone.querySelector("input"))).focus();
  }
}
