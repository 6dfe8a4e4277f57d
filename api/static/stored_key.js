// The API key that the user has entered, in the session storage of this tab only.

const NAME = "sortbelt.key";

export const key = () => sessionStorage.getItem(NAME);
export const keep = (value) => sessionStorage.setItem(NAME, value);
export const forget = () => sessionStorage.removeItem(NAME);
