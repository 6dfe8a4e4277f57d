// Submit, poll, cancel and read results, with the types that openapi-typescript makes of /openapi.json.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };
type Job = components["schemas"]["Job"];

const [url, key, image] = process.argv.slice(2) as [string, string, string];
const client = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${key}` } });

function must<T>(answer: { data?: T; error?: unknown }): T {
  if (answer.data === undefined) throw new Error(JSON.stringify(answer.error));
  return answer.data;
}

const body = { job_name: "Lunch", images: [{ name: "lunch.png", data: image }] };
const job: Job = must(await client.POST("/v1/jobs", { body }));
const shown = must(await client.GET("/v1/jobs/{job_id}", { params: { path: { job_id: job.id } } }));
must(await client.POST("/v1/jobs/{job_id}/cancel", { params: { path: { job_id: job.id } } }));
const page = must(await client.GET("/v1/results", { params: { query: { job: job.id, status: "cancelled" } } }));
if (typeof page === "string") throw new Error("The results are text, such as CSV.");
console.log(JSON.stringify({ name: job.name, status: shown.status, images: page.results.map((one) => one.image) }));
