// Decodes and tints masks outside the page's own thread, so that the page stays responsive.

import { decode } from "./rle.js";
import { tinted } from "./tint.js";

self.addEventListener("message", async ({ data: { id, rle, width, height, colour } }) => {
  try {
    const mask = decode(rle, width, height);
    if (mask === null || colour === null) {
      self.postMessage({ id, mask }, mask === null ? [] : [mask.pixels.buffer]);
      return;
    }
    const bitmap = await createImageBitmap(new ImageData(tinted(mask, colour), mask.width, mask.height));
    self.postMessage({ id, mask: { ...mask, bitmap } }, [bitmap, mask.pixels.buffer]);
  } catch (error) {
    self.postMessage({ id, error: String(error) });
  }
});
