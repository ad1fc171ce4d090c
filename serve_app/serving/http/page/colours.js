// Colours of entities and of individuals, the same as in the service's overlays. Pure.

/** Source: serve_app/images/palette.py; a test compares the two. */
export const COLOURS = [
  [255, 64, 64], [30, 144, 255], [60, 200, 75], [255, 190, 0], [178, 102, 255], [0, 210, 210], [255, 128, 0],
  [255, 90, 190], [160, 220, 20], [70, 90, 235], [105, 105, 0], [255, 195, 255], [165, 45, 120], [45, 150, 135],
  [180, 165, 240], [180, 120, 0], [75, 255, 210], [165, 0, 225], [180, 105, 150], [210, 0, 0], [45, 105, 150],
  [225, 0, 165], [255, 150, 165], [0, 150, 0], [180, 180, 105], [240, 0, 255], [255, 135, 255], [150, 75, 60],
  [135, 225, 255], [60, 180, 255], [0, 255, 0], [135, 90, 180],
];

/** The colour at an index, as red, green and blue. After the last colour comes the first one again. */
export const colourAt = (place) => COLOURS[place % COLOURS.length];

/** The colour as CSS writes it. */
export const css = ([red, green, blue]) => `rgb(${red}, ${green}, ${blue})`;

/** Black or white, whichever stands out more on the colour. Source: WCAG 2.2. */
export function textOn(colour) {
  const [red, green, blue] = colour.map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) ? "#000" : "#fff";
}
