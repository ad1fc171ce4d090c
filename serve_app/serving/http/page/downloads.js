// Downloads: the annotated picture and the cut-outs, both in the picture's own size.

import { save } from "./dom.js";
import { draw } from "./draw.js";
import { zip } from "./zip.js";

/** Turns a name into a file name that every system accepts. */
export const fileName = (text) => text.replace(/[\u0000-\u001f\\/:*?"<>|]+/g, "_").slice(-120) || "image";

const stem = (name) => fileName(name.replace(/\.[^.]*$/, ""));

const pngOf = (canvas) => canvas.convertToBlob({ type: "image/png" });

/** Saves the result document. */
export function saveJson(document_) {
  save(new Blob([JSON.stringify(document_, null, 2)], { type: "application/json" }), "segmentation.json");
}

/**
 * Saves a picture with the masks, boxes and labels that are shown now.
 *
 * @param {import("./viewer.js").Viewer} viewer
 */
export async function savePicture(viewer) {
  const { width, height } = viewer;
  const canvas = new OffscreenCanvas(width, height);
  const objects = await Promise.all(
    viewer.objects().map(async (each) => ({
      ...each,
      mask: each.rle ? await viewer.masks.decode(each.rle, width, height, each.colour) : null,
    })),
  );
  const picture = viewer.canShow ? await createImageBitmap(viewer.file) : null;
  const line = Math.max(1.5, Math.max(width, height) / 600);
  const context = canvas.getContext("2d");
  draw(context, { picture, scale: 1, objects, highlight: null, labels: viewer.look.labels, line });
  for (const bitmap of [picture, ...objects.map(({ mask }) => mask?.bitmap)]) bitmap?.close();
  save(await pngOf(canvas), `${stem(viewer.file.name)}_annotated.png`);
}

/** Saves each object that is shown as a PNG that is transparent outside its mask; several as one ZIP archive. */
export async function saveCutOuts(viewer) {
  const picture = await createImageBitmap(viewer.file);
  const files = [];
  for (const { id, rle } of viewer.objects()) {
    const mask = rle ? await viewer.masks.decode(rle, viewer.width, viewer.height) : null;
    if (mask === null) continue;
    const blob = await pngOf(cutOut(picture, mask));
    const name = `${stem(viewer.file.name)}_${fileName(id)}`;
    const alike = files.filter((each) => each.called === name).length;
    files.push({ called: name, name: `${name}${alike ? ` (${alike + 1})` : ""}.png`, blob });
  }
  picture.close();
  if (files.length === 1) save(files[0].blob, files[0].name);
  if (files.length > 1) {
    const read = async ({ name, blob }) => ({ name, bytes: new Uint8Array(await blob.arrayBuffer()) });
    save(zip(await Promise.all(files.map(read))), `${stem(viewer.file.name)}_cut-outs.zip`);
  }
  return files.length;
}

function cutOut(picture, mask) {
  const canvas = new OffscreenCanvas(mask.width, mask.height);
  const context = canvas.getContext("2d");
  context.drawImage(picture, -mask.x, -mask.y);
  const data = context.getImageData(0, 0, mask.width, mask.height);
  mask.pixels.forEach((inside, at) => {
    if (!inside) data.data[4 * at + 3] = 0;
  });
  context.putImageData(data, 0, 0);
  return canvas;
}
