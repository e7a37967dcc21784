#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Leaves a report for apport (Ubuntu) about a module that did not build.

dkms calls it where apport is installed: dkms_packages.py -m MODULE -v VERSION -k KERNEL
"""

import argparse
import os
import subprocess

import apport
import apport.fileutils


def owner(path):
    """The package that ships the path, or None."""
    found = subprocess.run(["dpkg-query", "--search", path], capture_output=True, text=True, check=False)
    return found.stdout.split(":")[0].split(",")[0] or None


def main():
    options = argparse.ArgumentParser(description="report a module that did not build to apport")
    options.add_argument("-m", dest="module", required=True)
    options.add_argument("-v", dest="version", required=True)
    options.add_argument("-k", dest="kernel", required=True)
    args = options.parse_args()

    tree = f"/var/lib/dkms/{args.module}/{args.version}"
    package = owner(os.path.realpath(f"{tree}/source"))
    if package is None:
        return  # Somebody's own source: there is nobody to report to.

    report = apport.Report("Package")
    report.add_package(package)
    report["SourcePackage"] = apport.packaging.get_source(package)
    report["PackageVersion"] = apport.packaging.get_version(package)
    report["Title"] = f"{package}: {args.module} {args.version} does not build for {args.kernel}"
    report["ErrorMessage"] = f"{args.module} kernel module failed to build"
    report["DKMSKernelVersion"] = args.kernel
    log = f"{tree}/build/make.log"
    if os.path.isfile(log):
        report["DKMSBuildLog"] = (log,)
    try:
        with apport.fileutils.make_report_file(report) as file:
            report.write(file)
    except FileExistsError:
        pass  # The one that is there has not been looked at yet.


if __name__ == "__main__":
    main()
