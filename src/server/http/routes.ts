import type { FastifyRequest, RouteOptions } from 'fastify';
import type { Problem } from '../../api/problem.js';
import type { AccessLevel, Role } from './auth.js';
import { createProblem } from './problem.js';
import type { TypedApp } from './typed-app.js';

export interface ListedRoute {
  readonly methods: readonly string[];
  readonly url: string;
  readonly access: AccessLevel;
  /** Of a protected route the lowest role that may call it; undefined when the route forgets to say. */
  readonly role: Role | 'any' | undefined;
}

/** The routes of an app as they are added. */
export type RouteTable = ReturnType<typeof openRouteTable>;

/** Starts to note the routes that are added to an app from now on. */
export function openRouteTable(app: TypedApp) {
  const routes: { pattern: RegExp; methods: readonly string[]; options: RouteOptions }[] = [];
  app.addHook('onRoute', (options) => {
    routes.push({ pattern: compilePath(options.url), methods: [options.method].flat(), options });
  });
  return {
    /** Methods that a path takes; none: there is no such route. It tells a wrong method from a wrong path. */
    methodsOf(path: string): readonly string[] {
      const matching = routes.filter(({ pattern }) => pattern.test(path));
      return [...new Set(matching.flatMap(({ methods }) => methods))].sort();
    },
    /** Every route, with what it asks of who calls it. */
    // Hooks of a plugin complete the options of its routes, so they are looked at only here.
    list: (): readonly ListedRoute[] =>
      routes.map(({ methods, options: { url, config } }) => ({
        methods,
        url,
        access: config?.access ?? 'protected',
        role: config?.role,
      })),
  };
}

/**
 * Requires that every protected route says who may call it, so that none is open to more people than was thought of.
 *
 * @throws Error naming the routes that do not.
 */
export function requireRoles(routes: readonly ListedRoute[]): void {
  const silent = routes.filter(({ access, role }) => access === 'protected' && role === undefined);
  if (silent.length === 0) return;
  const names = silent.map(({ methods, url }) => `${methods.join(', ')} ${url}`);
  throw new Error(`config.role is missing of ${names.join('; ')}`);
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
