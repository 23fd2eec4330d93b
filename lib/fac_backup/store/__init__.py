"""The store: bucket access, pieces, manifests, catalog, locks."""
