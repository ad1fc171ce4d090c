"""The HTTP interface of the ingress: routes, bodies, errors, the API description and the page."""
