import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyContextConfig, FastifyPluginAsync, FastifySchema } from 'fastify';
import { Problem } from '../../../api/problem-schema.js';
import { pathOf } from '../routes.js';
import type { TypedApp } from '../typed-app.js';

/** What the documentation page may load: files of this server. Swagger UI draws its icons from data addresses. */
const pagePolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const page = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>svc-mqtt HTTP API</title>
<link rel="stylesheet" href="static/swagger-ui.css">
<link rel="stylesheet" href="static/index.css">
<link rel="icon" type="image/png" href="static/favicon-32x32.png" sizes="32x32">
</head>
<body>
<div id="swagger-ui"></div>
<script src="static/swagger-ui-bundle.js"></script>
<script src="start.js"></script>
</body>
</html>
`;

const startScript = `SwaggerUIBundle({
  url: '../openapi.json',
  dom_id: '#swagger-ui',
  deepLinking: true,
  validatorUrl: null,
});
`;

const hidden = { hide: true };

/**
 * Relative to the address of the specification (OpenAPI 3.1, Server Object), so that it holds behind a proxy that puts a
 * path before it, too. The swagger plugin takes none that is relative.
 */
const servers = [{ url: '.', description: 'This replica' }];

/** Prepares the specification, which takes in every route added after this call. */
export async function openSpecification(app: TypedApp, version: string): Promise<void> {
  app.addSchema(Problem);
  /** The operations whose body may be left out. */
  const withoutBody = new Set<string>();
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'svc-mqtt',
        version,
        description:
          'Adds, lists and revokes the devices of the gateway. Errors are problem details (RFC 9457) with a stable `code`. ' +
          'Log in with an API key or API_TOKEN (Authorize); each operation names the role that it needs. ' +
          'While there is neither, only requests from this machine are answered. ' +
          'Limits: 16 KiB a body, 1 MiB of an import (413), 4 KiB an address (414), 16 KiB a header (431), 15 s for a request to arrive (408).',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      tags: [
        { name: 'devices', description: 'Identities of devices' },
        { name: 'connections', description: 'Live connections of this replica' },
        { name: 'stats', description: 'How this replica is doing' },
        { name: 'events', description: 'What happens, as it happens' },
        { name: 'claims', description: 'By which devices get their credentials themselves' },
        { name: 'policies', description: 'What devices of a type may do' },
        { name: 'api-keys', description: 'Who may use this API' },
        { name: 'audit', description: 'Who changed what' },
        { name: 'metrics', description: 'For Prometheus' },
        { name: 'health', description: 'For probes; no token is needed' },
      ],
      components: {
        securitySchemes: {
          bearer: { type: 'http', scheme: 'bearer', description: 'An API key, or the value of API_TOKEN' },
        },
      },
      // The empty requirement says that there may be no token to show.
      security: [{ bearer: [] }, {}],
    },
    transform: ({ schema, url, route }) => {
      if (route.config?.bodyOptional === true) withoutBody.add(String(schema.operationId));
      return { schema: describeRole(schema, route.config), url };
    },
    // The plugin says of every body that it is required.
    transformObject: (document) => {
      const { paths = {} } = 'openapiObject' in document ? document.openapiObject : {};
      for (const { post } of Object.values(paths).map((path) => path ?? {})) {
        const { requestBody: body } = post ?? {};
        if (body !== undefined && 'content' in body && withoutBody.has(String(post?.operationId)))
          body.required = false;
      }
      return 'openapiObject' in document ? document.openapiObject : document.swaggerObject;
    },
    refResolver: {
      buildLocalReference: (schema, _base, _fragment, index) => String(schema.$id ?? `Schema${index}`),
    },
  });
}

/** Says in the description of a protected route which role it needs. */
function describeRole(schema: FastifySchema, config: FastifyContextConfig | undefined): FastifySchema {
  const { access = 'protected', role, ownRole } = config ?? {};
  if (access !== 'protected' || role === undefined) return schema;
  const own = ownRole === undefined ? '' : `; \`${ownRole}\` for what it made`;
  return { ...schema, description: `${schema.description ?? ''}\n\nRole: \`${role}\`${own}.`.trim() };
}

/**
 * Adds `/openapi.json` and the pages under `/docs/`, all of whose files come from this process. Every address is relative,
 * so that it holds behind a proxy that puts a path before it.
 */
export async function addDocumentationRoutes(app: TypedApp): Promise<void> {
  const documentation = { config: { access: 'documentation' }, schema: hidden } as const;

  app.get('/openapi.json', documentation, async () => ({ ...app.swagger(), servers }));

  app.get('/docs/index.html', documentation, async (_request, reply) =>
    reply.header('content-security-policy', pagePolicy).type('text/html; charset=utf-8').send(page),
  );
  app.get('/docs/start.js', documentation, async (_request, reply) =>
    reply.type('text/javascript; charset=utf-8').send(startScript),
  );

  await app.register(servePageFiles);
}

const servePageFiles: FastifyPluginAsync = async (scope) => {
  scope.addHook('onRoute', (route) => {
    route.config = { ...route.config, access: 'documentation' };
  });
  await scope.register(swaggerUi, {
    routePrefix: '/docs',
    // The package's own page names a second copy of the specification; only its files are wanted.
    uiHooks: { onRequest: (request, reply) => reply.redirect(pathToPage(pathOf(request.url))) },
  });
};

/** The page as seen from a path that is `/docs` or lies below it (RFC 3986 §5.2). */
function pathToPage(path: string): string {
  const below = path.split('/').length - 2;
  return below === 0 ? 'docs/index.html' : `${'../'.repeat(below - 1)}index.html`;
}
