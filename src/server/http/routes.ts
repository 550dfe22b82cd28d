import type { FastifyRequest } from 'fastify';
import { createProblem, type Problem } from './problem.js';
import type { TypedApp } from './typed-app.js';

/** The routes of an app as they are added, to tell a wrong method from a wrong path. */
export interface RouteTable {
  /** Methods that a path takes; none: there is no such route. */
  methodsOf(path: string): readonly string[];
}

/** Starts to note the routes that are added to an app from now on. */
export function openRouteTable(app: TypedApp): RouteTable {
  const routes: { pattern: RegExp; methods: readonly string[] }[] = [];
  app.addHook('onRoute', ({ url, method }) => {
    routes.push({ pattern: compilePath(url), methods: [method].flat() });
  });
  return {
    methodsOf(path) {
      const matching = routes.filter(({ pattern }) => pattern.test(path));
      return [...new Set(matching.flatMap(({ methods }) => methods))].sort();
    },
  };
}

/** `/devices/:id` and `/docs/static/*` as expressions. */
function compilePath(url: string): RegExp {
  const source = url
    .replace(/[.+?^${}()|[\]\\]/g, '\\$&')
    .replace(/\*/g, '.*')
    .replace(/:\w+/g, '[^/]+');
  return new RegExp(`^${source}$`);
}

/** Describes a request for which there is no route. `allow` lists the methods that its path takes, if any. */
export function describeMissingRoute(
  table: RouteTable,
  request: FastifyRequest,
): { problem: Problem; allow: string | undefined } {
  const path = pathOf(request.url);
  const methods = table.methodsOf(path);
  if (methods.length > 0 && !methods.includes(request.method)) {
    const allow = methods.join(', ');
    const detail = `${path} takes ${allow}, not ${request.method}`;
    return { problem: createProblem('METHOD_NOT_ALLOWED', detail), allow };
  }
  const detail = `There is nothing at ${path}; /docs/index.html describes the API`;
  return { problem: createProblem('ROUTE_NOT_FOUND', detail), allow: undefined };
}

/** The path of a request's address, without the query, which may hold what is no business of a log. */
export function pathOf(url: string): string {
  return url.split('?', 1)[0] ?? url;
}
