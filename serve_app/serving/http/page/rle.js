// Reads COCO's compressed run-length encoding. Pure: no DOM, no worker.
// Source: pycocotools 2.0, common/maskApi.c, rleFrString.

/**
 * Reads the run lengths: pixels outside and inside the mask in turn, down the columns, one column after another.
 *
 * @param {string} counts - groups of five bits, one a character from "0" on; 0x20 says that more follow, 0x10 of the last
 *   one is the sign; from the fourth number on each is the difference to the last but one.
 * @returns {number[]}
 */
export function runLengths(counts) {
  const runs = [];
  for (let place = 0; place < counts.length; ) {
    let value = 0;
    let shift = 0;
    let group;
    do {
      group = counts.charCodeAt(place++) - 48;
      value |= (group & 0x1f) << shift;
      shift += 5;
    } while (group & 0x20 && place < counts.length);
    if (group & 0x10 && shift < 32) value |= -1 << shift;
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

/**
 * Decodes a mask at any size: each pixel of the result is the mask's pixel at the same place.
 *
 * @param {{size: [number, number], counts: string}} rle - `size` is [height, width].
 * @param {number} width - of the result's picture, in pixels.
 * @param {number} height - likewise.
 * @returns {{x: number, y: number, width: number, height: number, pixels: Uint8Array}|null} the smallest part that
 *   holds every pixel of the mask, 1 inside and row by row; null if no pixel is inside.
 */
export function decode(rle, width, height) {
  const [fullHeight, fullWidth] = rle.size;
  const spans = columnSpans(runLengths(rle.counts), fullWidth, fullHeight, width, height);
  if (spans.length === 0) return null;
  let [left, right, top, bottom] = [width, 0, height, 0];
  for (const [column, from, to] of spans) {
    left = Math.min(left, column);
    right = Math.max(right, column + 1);
    top = Math.min(top, from);
    bottom = Math.max(bottom, to);
  }
  const part = { x: left, y: top, width: right - left, height: bottom - top };
  const pixels = new Uint8Array(part.width * part.height);
  for (const [column, from, to] of spans) {
    for (let row = from - top; row < to - top; row++) pixels[row * part.width + column - left] = 1;
  }
  return { ...part, pixels };
}

/** Lists [column, first row, last row + 1] of each vertical piece of the mask, in pixels of the result. */
function columnSpans(runs, fullWidth, fullHeight, width, height) {
  // How many rows of the result are taken from above a row of the mask.
  const rowsAbove = (row) => Math.min(height, Math.max(0, Math.ceil((row * height) / fullHeight - 0.5)));
  const spans = [];
  let run = 0;
  let start = 0; // the pixel where `run` begins
  for (let column = 0; column < width; column++) {
    const first = Math.floor(((column + 0.5) * fullWidth) / width) * fullHeight;
    const last = first + fullHeight;
    while (run < runs.length && start + runs[run] <= first) start += runs[run++];
    for (let each = run, from = start; each < runs.length && from < last; from += runs[each++]) {
      if (each % 2 === 0) continue;
      const top = rowsAbove(Math.max(from, first) - first);
      const bottom = rowsAbove(Math.min(from + runs[each], last) - first);
      if (bottom > top) spans.push([column, top, bottom]);
    }
  }
  return spans;
}
