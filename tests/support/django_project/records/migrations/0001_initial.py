# ruff: noqa: RUF012  Django wants plain lists here
"""The first tables."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """Submissions and findings."""

    initial = True
    operations = [
        migrations.CreateModel(
            name="Submission",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("report_id", models.CharField(max_length=40, unique=True)),
                ("title", models.TextField()),
                ("amount", models.DecimalField(decimal_places=2, max_digits=14)),
                ("extra", models.JSONField(default=dict)),
                ("blob", models.BinaryField(default=b"")),
                ("submitted", models.DateTimeField(null=True)),
                ("report", models.FileField(blank=True, upload_to="reports/")),
            ],
        ),
        migrations.CreateModel(
            name="Finding",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.PositiveIntegerField()),
                ("text", models.TextField()),
                (
                    "submission",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="findings", to="records.submission"
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="finding",
            constraint=models.UniqueConstraint(fields=("submission", "number"), name="one_number_a_submission"),
        ),
    ]
