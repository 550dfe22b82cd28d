import { SerializerSelector } from '@fastify/fast-json-stringify-compiler';

/** Compiles what writes answers, each schema once, when it is first answered with: all at the start were a tenth of what that takes. */
export const buildSerializer: ReturnType<typeof SerializerSelector> = (schemas, options) => {
  const compile = SerializerSelector()(schemas, options);
  type Serializer = ReturnType<typeof compile>;
  const compiled = new Map<string, Serializer>();
  return (route) => {
    const key = JSON.stringify(route.schema);
    let write: Serializer | undefined;
    const serializer =
      compiled.get(key) ??
      ((data) => {
        write ??= compile(route);
        return write(data);
      });
    compiled.set(key, serializer);
    return serializer;
  };
};
