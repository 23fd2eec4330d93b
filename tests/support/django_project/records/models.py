# ruff: noqa: RUF012  Django wants plain lists here
"""Submissions and their findings."""

from django.db import models


class Submission(models.Model):
    """An audit report."""

    report_id = models.CharField(max_length=40, unique=True)
    title = models.TextField()
    amount = models.DecimalField(max_digits=14, decimal_places=2)
    extra = models.JSONField(default=dict)
    blob = models.BinaryField(default=b"")
    submitted = models.DateTimeField(null=True)
    report = models.FileField(upload_to="reports/", blank=True)


class Finding(models.Model):
    """One finding of a report."""

    submission = models.ForeignKey(Submission, on_delete=models.CASCADE, related_name="findings")
    number = models.PositiveIntegerField()
    text = models.TextField()

    class Meta:
        """One number a submission."""

        constraints = [models.UniqueConstraint(fields=["submission", "number"], name="one_number_a_submission")]
