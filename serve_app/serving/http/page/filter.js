// Which objects are shown at the sliders' thresholds. Pure.

/**
 * @typedef {object} Thresholds - what the sliders are set to.
 * @property {number} all - for labels without one of their own.
 * @property {Map<string, number>} labels - of single labels.
 */

/** The threshold that the service applied to a label. */
export const askedFor = (meta, label) => (Object.hasOwn(meta.thresholds, label) ? meta.thresholds[label] : meta.threshold);

/** The threshold that the sliders set for a label. */
export const setFor = (thresholds, label) => thresholds.labels.get(label) ?? thresholds.all;

/**
 * Tells whether an object is shown. If the slider is at or below the request's threshold, every object of the answer is
 * shown: its score was above that threshold, but may have been rounded to it.
 */
export function passes(object, thresholds, meta) {
  const limit = setFor(thresholds, object.label);
  return limit <= askedFor(meta, object.label) || object.score > limit;
}

/** The labels whose sliders differ from the request's thresholds. */
export const moved = (entities, thresholds, meta) =>
  entities.filter((label) => Math.abs(setFor(thresholds, label) - askedFor(meta, label)) > 1e-9);

/** The labels whose sliders are below the request's thresholds. The answer lacks their objects with scores in between. */
export const below = (entities, thresholds, meta) =>
  entities.filter((label) => setFor(thresholds, label) < askedFor(meta, label) - 1e-9);
