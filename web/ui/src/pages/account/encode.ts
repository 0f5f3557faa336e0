// The one function that is taken of uqr, as a chunk of its own.

export { encode } from "uqr";
