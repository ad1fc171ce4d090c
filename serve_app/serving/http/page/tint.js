// Paints a mask in one colour: translucent inside, opaque along its edge. Pure.

const INSIDE = 110; // of 255
const EDGE = 255;

/**
 * @param {{width: number, height: number, pixels: Uint8Array}} mask - row by row, 1 inside.
 * @param {[number, number, number]} colour - red, green and blue, 0 to 255.
 * @returns {Uint8ClampedArray} red, green, blue and alpha of each pixel.
 */
export function tinted({ width, height, pixels }, colour) {
  const rgba = new Uint8ClampedArray(4 * pixels.length);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (!pixels[at]) continue;
      const within =
        x > 0 && x < width - 1 && y > 0 && y < height - 1 &&
        pixels[at - 1] && pixels[at + 1] && pixels[at - width] && pixels[at + width];
      rgba[4 * at] = colour[0];
      rgba[4 * at + 1] = colour[1];
      rgba[4 * at + 2] = colour[2];
      rgba[4 * at + 3] = within ? INSIDE : EDGE;
    }
  }
  return rgba;
}
