// Builds the portal's styles, scripts and icons into `portal/assets/dist`.
//
// Every file gets its content hash in its name, so that the portal can let browsers keep it for ever; `manifest.json`
// maps plain names ("app.css") to hashed ones. Files above 1 KiB get a `.gz` beside them, so that the portal never
// compresses on the fly. Files that did not change are left alone, which keeps rebuilds of the portal crate small.

import { build } from "esbuild";
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, basename, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const here = dirname(fileURLToPath(import.meta.url));
const src = join(here, "src");
const dist = join(here, "dist");
const GZIP_FROM_BYTES = 1024;

/** Leaves the API reference's chat drawer, which would talk to its vendor's service, out of the bundle. */
const withoutChat = {
  name: "without-chat",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /AgentScalarDrawer\.vue\.js$/ }, () => ({ path: "chat-drawer", namespace: "empty" }));
    onLoad({ filter: /.*/, namespace: "empty" }, () => ({ contents: "export default {};" }));
  },
};

/** Bundles the scripts and styles; returns file name -> bytes, and the hashed name of each entry. */
async function bundle() {
  const entries = ["app.css", "app.js", "theme.js", "charts.js", "reference.js"];
  const result = await build({
    absWorkingDir: join(here, "../.."),
    entryPoints: entries.map((name) => join(src, name)),
    outdir: dist,
    bundle: true,
    minify: true,
    splitting: true,
    format: "esm",
    target: ["chrome123", "firefox121", "safari17.5"],
    entryNames: "[name]-[hash]",
    chunkNames: "[name]-[hash]",
    assetNames: "[name]-[hash]",
    legalComments: "none",
    define: {
      "process.env.NODE_ENV": '"production"',
      __VUE_OPTIONS_API__: "true",
      __VUE_PROD_DEVTOOLS__: "false",
      __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: "false",
    },
    plugins: [withoutChat],
    metafile: true,
    write: false,
    logLevel: "warning",
  });

  const files = new Map(result.outputFiles.map((file) => [basename(file.path), file.contents]));
  const manifest = {};
  for (const [path, output] of Object.entries(result.metafile.outputs)) {
    // Lazily loaded parts of the API reference count as entry points too; nothing names them but their importer.
    if (!output.entryPoint?.startsWith("portal/assets/src/")) continue;
    const plain = basename(output.entryPoint);
    manifest[plain] = basename(path);
    // A script that imports styles (the API reference) yields a stylesheet beside it.
    if (output.cssBundle) manifest[plain.replace(/\.js$/, ".css")] = basename(output.cssBundle);
  }
  return { files, manifest };
}

/** Adds the files of `src/static` (logo, favicon, icon sheet) under hashed names. */
async function addStatic(files, manifest) {
  for (const name of await readdir(join(src, "static"))) {
    const bytes = await readFile(join(src, "static", name));
    const hash = createHash("sha256").update(bytes).digest("hex").slice(0, 8);
    const extension = extname(name);
    const hashed = `${basename(name, extension)}-${hash}${extension}`;
    files.set(hashed, bytes);
    manifest[name] = hashed;
  }
}

function addCompressed(files) {
  for (const [name, bytes] of [...files]) {
    if (bytes.length <= GZIP_FROM_BYTES) continue;
    const packed = gzipSync(bytes, { level: 9 });
    if (packed.length < bytes.length) files.set(`${name}.gz`, packed);
  }
}

/** Writes what changed and removes what is no longer built; returns how many files were touched. */
async function writeChanged(files) {
  await mkdir(dist, { recursive: true });
  const present = new Set(await readdir(dist));
  let touched = 0;
  for (const [name, bytes] of files) {
    const path = join(dist, name);
    if (present.delete(name) && Buffer.compare(await readFile(path), bytes) === 0) continue;
    await writeFile(path, bytes);
    touched += 1;
  }
  for (const stale of present) {
    await rm(join(dist, stale), { recursive: true });
    touched += 1;
  }
  return touched;
}

const started = performance.now();
const { files, manifest } = await bundle();
await addStatic(files, manifest);
addCompressed(files);
const sorted = Object.fromEntries(Object.entries(manifest).sort(([a], [b]) => (a < b ? -1 : 1)));
files.set("manifest.json", Buffer.from(JSON.stringify(sorted, null, 2) + "\n"));
const touched = await writeChanged(files);
console.log(`assets: ${files.size} files, ${touched} changed, in ${Math.round(performance.now() - started)} ms`);
