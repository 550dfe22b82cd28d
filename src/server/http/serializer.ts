import { SerializerSelector } from '@fastify/fast-json-stringify-compiler';

/**
 * Compiles what writes answers, each schema once. Most routes answer with the same problems; compiled for each of them,
 * they were two thirds of the time that the API needs to start.
 */
export const buildSerializer: ReturnType<typeof SerializerSelector> = (schemas, options) => {
  const compile = SerializerSelector()(schemas, options);
  const compiled = new Map<string, ReturnType<typeof compile>>();
  return (route) => {
    const key = JSON.stringify(route.schema);
    const serializer = compiled.get(key) ?? compile(route);
    compiled.set(key, serializer);
    return serializer;
  };
};
