import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

// The build goes to web/dist, which is checked in and embedded by package web.
// It holds no inline script or style, and names no other origin: the server's
// Content-Security-Policy allows neither.
export default defineConfig({
  base: "/ui/",
  resolve: {
    alias: { "@keyfold/sdk": fileURLToPath(new URL("../../sdk/typescript/src/index.ts", import.meta.url)) },
    dedupe: ["@hpke/core"],
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../dist",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    cssCodeSplit: false,
    chunkSizeWarningLimit: 120,
  },
  server: { proxy: { "/v1": process.env["KEYFOLD_URL"] ?? "http://127.0.0.1:7420", "/admin": process.env["KEYFOLD_URL"] ?? "http://127.0.0.1:7420" } },
});
