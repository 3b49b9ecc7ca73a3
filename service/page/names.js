// What features are called, and what their numbers count.

const NAMES = {
  sign_fraction: "sign fraction (share of positive signs)",
  hyperplane_distance: "hyperplane distance (to the nearest)",
  intrinsic_dimension: "intrinsic dimension (attention weights)",
};

const plain = (name) => name.replaceAll("_", " ");

/** A name with what it counts. */
export const described = (name) => NAMES[name] ?? plain(name).replace(/ 0*(\d+)$/, " $1 (share of positive signs)");

export { plain };
