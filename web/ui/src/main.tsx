import { render } from "preact";
import { App } from "./app.js";
import { watchIdle } from "./keys.js";
import { resume } from "./session.js";
import "./styles.css";

watchIdle();
void resume();
render(<App />, document.getElementById("app")!);
