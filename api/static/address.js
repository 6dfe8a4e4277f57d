// The address of a view: a path and parameters in the fragment. `image` is the image that is shown large over a view.

export function address(url = location.href) {
  const [path, query = ""] = new URL(url).hash.slice(1).split("?");
  return { path: path || "/", params: new URLSearchParams(query) };
}

// The fragment of a view.
export const fragment = (path, params) => `#${path}${params.size ? `?${params}` : ""}`;

export const shownImage = () => address().params.get("image");

// The fragment of the current view with another image shown large, or with none.
export function withImage(id) {
  const { path, params } = address();
  params.delete("image");
  if (id) params.set("image", id);
  return fragment(path, params);
}

// Whether two addresses differ in the image that is shown large only.
export function isOtherImage(before, after) {
  const [one, other] = [before, after].map((url) => {
    const { path, params } = address(url);
    const image = params.get("image");
    params.delete("image");
    return { view: `${path}?${params}`, image };
  });
  return one.view === other.view && one.image !== other.image;
}
