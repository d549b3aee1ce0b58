#!/usr/bin/env python3
"""sbom.py TARGET PACKAGE...: what the programs are made of, as a CycloneDX bill of materials, from Cargo.lock.

Only what is linked in: neither what builds, nor what tests. The same lock file gives the same bytes.
"""
import json, subprocess, sys

target, *programs = sys.argv[1:]
metadata = json.loads(subprocess.run(
    ['cargo', 'metadata', '--locked', '--format-version=1', f'--filter-platform={target}'],
    stdout=subprocess.PIPE, check=True).stdout)
packages = {package['id']: package for package in metadata['packages']}
nodes = {node['id']: node for node in metadata['resolve']['nodes']}


def is_macro(package):
    return any('proc-macro' in target['kind'] for target in package['targets'])


def linked(node):
    """Of a package, those that it is linked with."""
    return sorted(d['pkg'] for d in node['deps'] if any(kind['kind'] is None for kind in d['dep_kinds'])
                  and not is_macro(packages[d['pkg']]))


def reference(package):
    return f'pkg:cargo/{package["name"]}@{package["version"]}'


def component(package):
    entry = {
        'type': 'library', 'bom-ref': reference(package), 'name': package['name'], 'version': package['version'],
        'purl': reference(package),
    }
    if package['license']:
        entry['licenses'] = [{'expression': package['license'].replace('/', ' OR ')}]
    return entry


roots = [package['id'] for package in metadata['packages'] if package['source'] is None and package['name'] in programs]
reached, waiting = set(), list(roots)
while waiting:
    at = waiting.pop()
    if at not in reached:
        reached.add(at)
        waiting += linked(nodes[at])
ordered = sorted(reached, key=lambda at: reference(packages[at]))
version = packages[roots[0]]['version']
json.dump({
    'bomFormat': 'CycloneDX', 'specVersion': '1.6', 'version': 1,
    'metadata': {'component': {'type': 'container', 'bom-ref': 'tidegate', 'name': 'tidegate', 'version': version}},
    'components': [component(packages[at]) for at in ordered],
    'dependencies': [{'ref': 'tidegate', 'dependsOn': sorted(reference(packages[at]) for at in roots)}] + [
        {'ref': reference(packages[at]), 'dependsOn': [reference(packages[to]) for to in linked(nodes[at])]}
        for at in ordered],
}, sys.stdout, indent=1)
print()
