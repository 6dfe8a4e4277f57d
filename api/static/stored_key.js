// The API key that the user has entered, in the session storage of this tab only.

const NAME = "sortbelt.key";

export const storedKey = () => sessionStorage.getItem(NAME);
export const storeKey = (value) => sessionStorage.setItem(NAME, value);
export const removeKey = () => sessionStorage.removeItem(NAME);
