// Reads a stream of JSON documents, one a line. Pure apart from the stream.

/**
 * @param {ReadableStream<Uint8Array>} stream - the body of an answer.
 * @yields {object} each line's document, as soon as the line is complete.
 */
export async function* documents(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let pieces = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const lines = value.split("\n");
      // A line of many megabytes comes in many pieces; joining them once keeps the time linear.
      for (const rest of lines.slice(0, -1)) {
        const line = pieces.join("") + rest;
        pieces = [];
        if (line.trim()) yield JSON.parse(line);
      }
      pieces.push(lines[lines.length - 1]);
    }
    if (pieces.join("").trim()) yield JSON.parse(pieces.join(""));
  } finally {
    await reader.cancel().catch(() => {});
  }
}
