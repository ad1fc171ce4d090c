// One picture of the result: its canvas, the list of its objects, and its state in words.

import { css } from "./colours.js";
import { el, isReadable, shown } from "./dom.js";
import { draw, objectAt } from "./draw.js";

const MAX_PIXEL_RATIO = 2; // a higher ratio is not visible and takes longer
const LINE = 1.5; // CSS pixels

/** A figure; `restyle` sets how the objects look, `highlight` which ones stand out. */
export class Viewer {
  /**
   * @param {import("./masks.js").Masks} masks
   * @param {File} file
   * @param {{title: string, hovered: function(?string), picked: function(string), buttons: Node[], unseen: ?string}} options
   *   - `hovered` and `picked` are told an object's id; `unseen` says why there is no picture.
   */
  constructor(masks, file, { title, hovered, picked, buttons, unseen }) {
    Object.assign(this, { masks, file, title, hovered, picked });
    this.unseen = unseen ?? "this browser cannot show this kind of picture";
    this.image = null; // of the document
    this.look = { labels: true, passes: () => true, colour: () => [128, 128, 128], note: () => "" };
    this.lit = null;
    this.cache = new Map(); // object id -> {key, mask}: masks at the canvas's present size
    this.canvas = el("canvas", { width: 1, height: 1, role: "img", "aria-label": `${title}: waiting` });
    this.tip = el("div", { class: "tip", hidden: true });
    this.state = el("p", { class: "state", text: "waiting …" });
    this.list = el("ul", { class: "objects", "aria-label": `Objects in ${title}` });
    this.absent = el("p", { class: "absent" });
    this.buttons = el("div", { class: "buttons", hidden: true }, ...buttons);
    const box = el("div", { class: "canvas-box" }, this.canvas, this.tip);
    const caption = el("figcaption", {}, el("strong", { text: title }), " ", this.state);
    this.element = el("figure", { class: "viewer" }, caption, box, this.list, this.absent, this.buttons);
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerdown", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => this.leave());
    this.picture = null; // at the canvas's size
    this.ready = this.open();
    this.resized = new ResizeObserver(() => this.fit());
    this.resized.observe(box);
  }

  /** Stops background work and frees memory. */
  close() {
    this.resized.disconnect();
    this.closed = true;
    this.forget();
    this.picture?.close();
  }

  /** Drops the masks, whose bitmaps would keep their memory for a while. */
  forget() {
    for (const { mask } of this.cache.values()) mask?.bitmap?.close();
    this.cache.clear();
  }

  /** Reads the picture's size; if the browser cannot show the picture, the document says the size. */
  async open() {
    try {
      const picture = await createImageBitmap(this.file);
      [this.width, this.height] = [picture.width, picture.height];
      picture.close();
      this.canShow = true;
    } catch {
      this.canShow = false;
      if (!(await isReadable(this.file))) this.lose();
    }
    await this.fit();
  }

  /** Takes an image of the result document. */
  async setImage(image) {
    this.image = image;
    this.forget();
    await this.ready;
    if (this.canShow && (image.width !== this.width || image.height !== this.height)) {
      // Chromium ignores the orientation in a WebP's EXIF, so the masks would be in the wrong places.
      this.canShow = false;
      this.unseen = "this browser turns the picture differently than the service";
      this.fitted = null;
    }
    if (!this.canShow && image.width) [this.width, this.height] = [image.width, image.height];
    const failed = image.objects === null;
    this.element.classList.toggle("failed", failed);
    this.buttons.hidden = failed;
    if (failed) this.state.textContent = image.error.message;
    const missing = Object.entries(image.presence).filter(
      ([label]) => !(image.objects ?? []).some((object) => object.label === label),
    );
    this.absent.textContent = missing.length
      ? `Not found: ${missing.map(([label, presence]) => `${label} (presence ${shown(presence)})`).join(", ")}`
      : "";
    await this.fit();
  }

  /** Says why the image will not arrive; has no effect if it has arrived. */
  stop(text) {
    if (!this.image) this.state.textContent = text;
  }

  /** Changes how objects look; see `constructor` for the parts. */
  async restyle(look) {
    this.look = { ...this.look, ...look };
    await this.update();
  }

  /** The objects that are shown, the largest first, so that small ones lie on top. */
  objects() {
    const area = ({ bbox }) => (bbox[2] - bbox[0]) * (bbox[3] - bbox[1]);
    return (this.image?.objects ?? [])
      .filter((object) => this.look.passes(object))
      .sort((a, b) => area(b) - area(a))
      .map((object) => {
        const note = this.look.note(object.object_id);
        return {
          id: object.object_id,
          label: object.label,
          box: object.bbox,
          rle: object.mask_rle,
          colour: this.look.colour(object),
          mask: this.cache.get(object.object_id)?.mask ?? null,
          text: `${object.object_id} ${shown(object.score)}${note ? ` · ${note}` : ""}`,
        };
      });
  }

  /** Makes the canvas as large as it is displayed. */
  async fit() {
    if (!this.width || this.closed) return;
    this.canvas.style.aspectRatio = `${this.width} / ${this.height}`;
    this.canvas.style.maxWidth = `calc(80vh * ${this.width / this.height})`;
    if (!this.canvas.clientWidth) return; // not on the page yet; the observer calls again
    const ratio = Math.min(MAX_PIXEL_RATIO, window.devicePixelRatio || 1);
    const width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round((width * this.height) / this.width));
    if (this.fitted !== width) {
      this.fitted = width; // a later call that wants another width finds it here, and the earlier one ends
      const size = { resizeWidth: width, resizeHeight: height, resizeQuality: "medium" };
      const picture = this.canShow ? await createImageBitmap(this.file, size).catch(() => this.lose()) : null;
      if (this.closed || this.fitted !== width) return picture?.close();
      this.picture?.close();
      this.picture = picture;
      [this.canvas.width, this.canvas.height] = [width, height];
      this.forget();
      this.draw();
    }
    await this.update();
  }

  /** Notes that the file can no longer be read. */
  lose() {
    this.canShow = false;
    this.unseen = "the picture's file has changed or is gone";
    return null;
  }

  /** Fetches the masks that are not there yet, and draws. */
  async update() {
    const { image } = this;
    const { width, height } = this.canvas;
    const isOld = () => this.closed || this.image !== image || this.canvas.width !== width || this.canvas.height !== height;
    let undrawn = 0;
    const fetched = this.objects().map(async ({ id, rle, colour }) => {
      const key = `${width} ${css(colour)}`;
      if (!rle || this.cache.get(id)?.key === key) return; // without masks only boxes are drawn
      const mask = await this.masks.decode(rle, width, height, colour).catch(() => undefined);
      if (mask === undefined) undrawn++;
      else if (isOld()) mask?.bitmap?.close();
      else {
        this.cache.get(id)?.mask?.bitmap?.close();
        this.cache.set(id, { key, mask });
      }
    });
    await Promise.all(fetched);
    if (isOld()) return;
    this.undrawn = undrawn;
    this.describe();
    this.draw();
  }

  /** Highlights objects by their ids; null for none. */
  highlight(ids) {
    this.lit = ids;
    for (const item of this.list.querySelectorAll("button")) {
      item.classList.toggle("lit", Boolean(ids?.has(item.dataset.id)));
    }
    this.draw();
  }

  /** Draws the canvas as it should look now. */
  draw() {
    if (this.closed || !this.width) return;
    const ratio = Math.min(MAX_PIXEL_RATIO, window.devicePixelRatio || 1);
    const drawn = { picture: this.picture, scale: this.canvas.width / this.width, objects: this.objects() };
    draw(this.canvas.getContext("2d"), { ...drawn, highlight: this.lit, labels: this.look.labels, line: LINE * ratio });
  }

  /** Says in words what the canvas shows. */
  describe() {
    if (!this.image) return;
    if (!this.image.objects) {
      this.canvas.setAttribute("aria-label", `${this.title}: failed: ${this.image.error.message}`);
      return;
    }
    const objects = this.objects();
    const hidden = this.image.objects.length - objects.length;
    const count = `${objects.length} object${objects.length === 1 ? "" : "s"}`;
    this.state.textContent =
      count +
      (hidden ? `, ${hidden} hidden` : "") +
      (this.canShow === false ? `; ${this.unseen}` : "") +
      (this.undrawn ? `; masks that could not be drawn: ${this.undrawn}` : "");
    this.canvas.setAttribute("aria-label", `${this.title}: ${count}${objects.length ? ": " : ""}${objects.map((each) => each.text).join(", ")}`);
    const focused = this.list.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    const byName = objects.sort((a, b) => a.id.localeCompare(b.id, "en", { numeric: true }));
    this.list.replaceChildren(...byName.map((each) => el("li", {}, this.item(each))));
    if (focused) this.list.querySelector(`button[data-id="${CSS.escape(focused)}"]`)?.focus();
  }

  item({ id, colour, text }) {
    const swatch = el("span", { class: "swatch" });
    swatch.style.backgroundColor = css(colour);
    return el(
      "button",
      {
        type: "button",
        data: { id },
        onmouseenter: () => this.hovered(id),
        onmouseleave: () => this.hovered(null),
        onfocus: () => this.hovered(id),
        onblur: () => this.hovered(null),
        onclick: () => this.picked(id),
      },
      swatch,
      text,
    );
  }

  point(event) {
    const scale = this.canvas.width / this.canvas.clientWidth;
    const found = objectAt(this.objects(), event.offsetX * scale, event.offsetY * scale, this.canvas.width / this.width);
    this.tip.hidden = !found;
    if (found) {
      this.tip.textContent = found.text;
      const [x, furthest] = [event.offsetX + this.canvas.offsetLeft, this.element.clientWidth - this.tip.offsetWidth];
      this.tip.style.left = `${Math.max(0, Math.min(x + 12, furthest))}px`;
      this.tip.style.top = `${event.offsetY + 16}px`;
    }
    if ((found?.id ?? null) !== this.under) this.hovered((this.under = found?.id ?? null));
  }

  leave() {
    this.tip.hidden = true;
    this.under = null;
    this.hovered(null);
  }
}
