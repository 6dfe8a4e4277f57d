// Start Swagger UI on this server's own document; the key that is typed in stays in this tab's memory.

window.SwaggerUIBundle({
  url: "../../openapi.json",
  dom_id: "#viewer",
  deepLinking: true,
  docExpansion: "none",
  tryItOutEnabled: true,
  validatorUrl: null,
});
