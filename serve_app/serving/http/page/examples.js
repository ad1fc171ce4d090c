// Examples to click: the pictures that ship with the service.

import { address, ServiceError } from "./api.js";

/** What each example asks for. */
export const EXAMPLES = [
  {
    title: "Everything arrives",
    prompt: "A dog sitting next to a red sofa under a tree, with a yellow balloon and a soccer ball",
    contextual: ["contextual_0.jpg", "contextual_1.jpg"],
    generated: "generated.jpg",
    entities: [],
  },
  {
    title: "Something is missing",
    prompt: "Two dogs from image 1 on a blue sofa, no tree",
    contextual: ["contextual_0.jpg", "contextual_1.jpg"],
    generated: "generated.jpg",
    entities: [],
  },
  {
    title: "One image, own entities",
    prompt: "",
    contextual: [],
    generated: "generated.jpg",
    entities: ["tree", "yellow balloon"],
  },
];

/** Loads an example's pictures as files. */
export async function load(example) {
  const fetched = async (name) => {
    const response = await fetch(address(`page/examples/${name}`)).catch(() => null);
    if (!response?.ok) {
      throw new ServiceError({ code: "unreachable", message: "The example's pictures cannot be loaded.", field: null }, 0);
    }
    return new File([await response.blob()], name, { type: "image/jpeg" });
  };
  return {
    ...example,
    contextual: await Promise.all(example.contextual.map(fetched)),
    generated: example.generated ? await fetched(example.generated) : null,
  };
}
