// Files that were dropped or chosen become pictures with names of their own, and pictures become requests of a fair size.

const MOST_BYTES = 16000000;
const MOST_FILES = 200;

// All pictures of what was dropped, folders too; and how many other files lay in these.
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return { pictures: named([...transfer.files]), left: 0 };
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return sifted(found);
}

// What was chosen one by one is sent, whatever it is; in a folder, other files than pictures are left alone.
export function chosen(list) {
  const files = [...list];
  if (!files.some((file) => file.webkitRelativePath)) return { pictures: named(files), left: 0 };
  return sifted(files.map((file) => ({ file, name: file.webkitRelativePath })));
}

// As many pictures, from one on, as are sent by one request: one at least.
export function group(pictures, from = 0, most = MOST_BYTES) {
  let bytes = pictures[from].file.size;
  let to = from + 1;
  while (to < pictures.length && to - from < MOST_FILES && bytes + pictures[to].file.size <= most) {
    bytes += pictures[to].file.size;
    to += 1;
  }
  return pictures.slice(from, to);
}

export const size = (pictures) => pictures.reduce((all, { file }) => all + file.size, 0);

function named(files) {
  return unique(files.map((file) => ({ file, name: file.name })));
}

function sifted(found) {
  const pictures = found.filter(({ file }) => file.type.startsWith("image/"));
  return { pictures: unique(pictures), left: found.length - pictures.length };
}

// A name is unique in its job.
function unique(pictures) {
  const taken = new Map();
  return pictures.map(({ file, name }) => {
    const times = (taken.get(name) ?? 0) + 1;
    taken.set(name, times);
    return { file, name: times === 1 ? name : name.replace(/(\.[^./]*)?$/, ` (${times})$1`) };
  });
}

async function walk(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ file, name: entry.fullPath.slice(1) });
    return;
  }
  const reader = entry.createReader();
  while (true) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const inner of some) await walk(inner, found);
  }
}
