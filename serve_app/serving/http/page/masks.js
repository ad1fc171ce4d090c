// Asks the worker for masks. A number in each answer tells which question it belongs to.

/** The page's side of the worker. */
export class Masks {
  constructor() {
    this.waiting = new Map();
    this.next = 0;
    this.worker = this.start();
  }

  start() {
    const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    worker.addEventListener("message", ({ data: { id, mask, error } }) => {
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      if (error === undefined) resolve(mask);
      else reject(new Error(error));
    });
    // The worker was not loaded or has failed, so open questions get no answer. The next mask starts another worker.
    worker.addEventListener("error", () => {
      worker.terminate();
      this.worker = null;
      for (const { reject } of this.waiting.values()) reject(new Error("the worker has failed"));
      this.waiting.clear();
    });
    return worker;
  }

  /**
   * Decodes a mask at the size of a picture.
   *
   * @param {object} rle - as in the result document.
   * @param {number} width - in pixels.
   * @param {number} height - in pixels.
   * @param {?[number, number, number]} colour - also makes `bitmap`, the mask in this colour.
   * @returns {Promise<?object>} x, y, width, height, pixels and perhaps bitmap; null for an empty mask. It is rejected
   *   if the mask is malformed or the worker fails.
   */
  decode(rle, width, height, colour = null) {
    const id = this.next++;
    this.worker ??= this.start();
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, rle, width, height, colour });
    });
  }
}
