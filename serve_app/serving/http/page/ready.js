// Waits until the service is ready, and says so.

import { missing } from "./api.js";

const DELAYS_S = [1, 2, 4, 8, 10];
const NAMES = { text_parser: "the text parser", segmentation: "the segmenter", ingress: "the service itself" };

/** Asks again and again, with growing pauses, until the service is ready or asks for a token. */
export class Readiness {
  /** @param {{say: function(string, string), token: function(): string, refused: function(string)}} options */
  constructor({ say, token, refused }) {
    Object.assign(this, { say, token, refused });
    this.round = 0;
  }

  /** Starts over. */
  async watch() {
    const round = ++this.round; // an older loop ends when it sees a newer number
    for (let attempt = 0; round === this.round; attempt++) {
      try {
        const left = await missing(this.token());
        if (round !== this.round) return;
        if (!left.length) return this.say("ready", "Ready");
        this.say("waiting", `Not ready: waiting for ${left.map((name) => NAMES[name] ?? name).join(" and ")}`);
      } catch (error) {
        if (round !== this.round) return;
        if (error.status === 401) {
          this.say("waiting", "A token is needed");
          return this.refused(error.message);
        }
        this.say("waiting", error.message);
      }
      await new Promise((resolve) => setTimeout(resolve, 1000 * DELAYS_S[Math.min(attempt, DELAYS_S.length - 1)]));
    }
  }
}
