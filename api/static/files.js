// Dropped or chosen files become images with unique names, grouped into requests of limited size.

const MAX_BYTES = 16000000;
const MAX_FILES = 200;
// The rules of the command, in sortbelt/files, with which a test compares these lists. A browser knows the type of few.
const IMAGE_SUFFIXES = [
  ".jpg", ".jpeg", ".jpe", ".jif", ".jfif", ".png", ".apng", ".gif", ".bmp", ".webp", ".tif", ".tiff",
  ".heic", ".heif", ".avif", ".jxl",
];
const SYSTEM_NAMES = [
  "#recycle", "#snapshot", "$recycle.bin", "@eadir", "@recently-snapshot", "@recycle", "__macosx", "desktop.ini",
  "ehthumbs.db", "lost+found", "lost.dir", "recycler", "system volume information", "thumbs.db",
];

// Return the dropped images, also in folders, and the number of other files in these folders.
export async function droppedImages(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return { images: named([...transfer.files]), left: 0 };
  const files = [];
  for (const entry of entries) await walk(entry, files);
  return onlyImages(files);
}

// Files that were chosen one by one are sent whatever they are; in a folder, only images are.
export function chosenImages(list) {
  const files = [...list];
  if (!files.some((file) => file.webkitRelativePath)) return { images: named(files), left: 0 };
  return onlyImages(files.map((file) => ({ file, name: file.webkitRelativePath })));
}

// Return the images, from an index on, that fit into one request: at least one.
export function nextBatch(images, from = 0, maxBytes = MAX_BYTES) {
  let bytes = images[from].file.size;
  let to = from + 1;
  while (to < images.length && to - from < MAX_FILES && bytes + images[to].file.size <= maxBytes) {
    bytes += images[to].file.size;
    to += 1;
  }
  return images.slice(from, to);
}

export const totalBytes = (images) => images.reduce((all, { file }) => all + file.size, 0);

function named(files) {
  return unique(files.map((file) => ({ file, name: file.name })));
}

function isImage(name) {
  const parts = name.toLowerCase().split("/").slice(name.includes("/") ? 1 : 0); // the folder itself was chosen
  return !parts.some((part) => part.startsWith(".") || SYSTEM_NAMES.includes(part)) &&
    IMAGE_SUFFIXES.some((suffix) => parts.at(-1).endsWith(suffix));
}

function onlyImages(files) {
  const images = files.filter(({ name }) => isImage(name));
  return { images: unique(images), left: files.length - images.length };
}

// Make names unique: a job has each name once.
function unique(images) {
  const taken = new Map();
  return images.map(({ file, name }) => {
    const times = (taken.get(name) ?? 0) + 1;
    taken.set(name, times);
    return { file, name: times === 1 ? name : name.replace(/(\.[^./]*)?$/, ` (${times})$1`) };
  });
}

async function walk(entry, files) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    files.push({ file, name: entry.fullPath.slice(1) });
    return;
  }
  const reader = entry.createReader();
  while (true) {
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length) return;
    for (const inner of entries) await walk(inner, files);
  }
}
