// Draws a picture with its objects: masks, boxes, labels. Knows a canvas's context, and no page.

import { css, textOn } from "./colours.js";

const DIMMED = 0.15;

/**
 * @typedef {object} Drawn - one object as it is drawn.
 * @property {string} id
 * @property {number[]} box - x1, y1, x2, y2 in pixels of the picture.
 * @property {?object} mask - x, y, width, height and bitmap in pixels of the canvas; null until it is decoded.
 * @property {number[]} colour
 * @property {string} text - of its label.
 */

/**
 * @param {CanvasRenderingContext2D} context
 * @param {object} what
 * @param {?CanvasImageSource} what.picture - null where the browser cannot show it.
 * @param {number} what.scale - pixels of the canvas for one of the picture.
 * @param {Drawn[]} what.objects - in the order in which they are drawn.
 * @param {?Set<string>} what.highlight - ids of the objects to highlight; null draws all alike.
 * @param {boolean} what.labels - whether labels are drawn.
 * @param {number} what.line - width of a line, in pixels of the canvas.
 */
export function draw(context, { picture, scale, objects, highlight, labels, line }) {
  const { width, height } = context.canvas;
  context.globalAlpha = 1;
  context.fillStyle = picture ? "#fff" : "#808080"; // the service also reads transparent pixels as white
  context.fillRect(0, 0, width, height);
  if (picture) context.drawImage(picture, 0, 0, width, height);
  for (const { id, mask } of objects) {
    if (!mask?.bitmap) continue;
    context.globalAlpha = highlight && !highlight.has(id) ? DIMMED : 1;
    context.drawImage(mask.bitmap, mask.x, mask.y);
  }
  for (const { id, box, colour } of objects) {
    const dimmed = highlight && !highlight.has(id);
    context.globalAlpha = dimmed ? DIMMED : 1;
    context.strokeStyle = css(colour);
    context.lineWidth = highlight && !dimmed ? 2 * line : line;
    context.strokeRect(box[0] * scale, box[1] * scale, (box[2] - box[0]) * scale, (box[3] - box[1]) * scale);
  }
  context.globalAlpha = 1;
  if (labels) for (const each of objects) if (!highlight || highlight.has(each.id)) drawLabel(context, each, scale, line);
}

function drawLabel(context, { box, colour, text }, scale, line) {
  const size = Math.round(8 * line);
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const width = Math.ceil(context.measureText(text).width) + size * 0.6;
  const height = Math.ceil(size * 1.4);
  // Inside the picture, and above the box if the label fits there.
  const x = Math.max(0, Math.min(box[0] * scale, context.canvas.width - width));
  const above = box[1] * scale - height;
  const y = above >= 0 ? above : Math.min(box[1] * scale, context.canvas.height - height);
  context.fillStyle = css(colour);
  context.fillRect(x, y, width, height);
  context.fillStyle = textOn(colour);
  context.fillText(text, x + size * 0.3, y + height / 2);
}

/**
 * Finds the object at a point: the smallest whose mask contains the point, else the smallest whose box does.
 *
 * @param {Drawn[]} objects
 * @param {number} x - in pixels of the canvas.
 * @param {number} y - likewise.
 * @param {number} scale - as in `draw`.
 * @returns {?Drawn}
 */
export function objectAt(objects, x, y, scale) {
  const size = ({ box }) => (box[2] - box[0]) * (box[3] - box[1]);
  const smallest = (found) => found.reduce((best, each) => (best && size(best) <= size(each) ? best : each), null);
  return (
    smallest(objects.filter(({ mask }) => mask && isInside(mask, Math.floor(x), Math.floor(y)))) ??
    smallest(
      objects.filter(({ box }) => {
        const [left, top, right, bottom] = box.map((side) => side * scale);
        return x >= left && x < right && y >= top && y < bottom;
      }),
    )
  );
}

function isInside(mask, x, y) {
  const [column, row] = [x - mask.x, y - mask.y];
  if (column < 0 || row < 0 || column >= mask.width || row >= mask.height) return false;
  return mask.pixels[row * mask.width + column] === 1;
}
