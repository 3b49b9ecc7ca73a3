// What features are called, and what their numbers count.

const NAMES = {
  sign_fraction: "sign fraction: share of hyperplanes on whose positive side the token is",
  hyperplane_distance: "hyperplane distance: to the nearest one, in units of the layer's input",
  intrinsic_dimension: "intrinsic dimension: attention weights above a tenth of their head's largest",
};

const plain = (name) => name.replaceAll("_", " ");

/** A name with what it counts. */
export const described = (name) => NAMES[name] ?? plain(name).replace(/ 0*(\d+)$/, " $1: share of the block's hyperplanes");

export { plain };
