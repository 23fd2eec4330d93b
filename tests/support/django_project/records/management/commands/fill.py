"""Fill the project with submissions, findings and reports."""

from django.core.files.base import ContentFile
from django.core.management.base import BaseCommand
from records.models import Finding, Submission


class Command(BaseCommand):
    """``manage.py fill COUNT``: the same every time."""

    help = "Fill the database and the documents"

    def add_arguments(self, parser):
        """One number."""
        parser.add_argument("count", type=int)

    def handle(self, *args, **options):
        """Make them; every third has a report."""
        for number in range(options["count"]):
            submission = Submission.objects.create(
                report_id=f"2026-{number:06}",
                title=f"Röport “{number}”\t\\N \\. \\! echo\r\n\\restrict x",
                amount=number * 1000 + 0.25,
                extra={"n": number, "quote": 'it\'s "so"', "nested": [None, True]},
                blob=bytes(range(256)),
            )
            if number % 3 == 0:
                submission.report.save(
                    f"r {number} ü.pdf", ContentFile(b"%PDF " + bytes([number % 256]) * (number * 700))
                )
            Finding.objects.bulk_create(
                Finding(submission=submission, number=n, text=f"finding {n}\n") for n in range(1, 4)
            )
