"""What a reader of the PDF sees, page by page."""

import dataclasses
import io
import re

import numpy as np
import pypdf
import pytest

from report_writer.credibility_section import ranks_text
from report_writer.layout import BANNER, STATUS, WATERMARK
from report_writer.pdf import dicom_date, person_name, report_pdf, stopped_pdf
from report_writer.tables import table_csv
from vbt.clinical.credibility import calibration_of, credibility, names
from vbt.clinical.findings import Quantity, Row, Table
from vbt.errors import Rejected
from vbt.fhir import report_bundle
from vbt.inference import SbcParameter, SbcResult

STOP = Rejected(
    "diffusion-too-few-directions",
    rule="diffusion needs at least 6 gradient directions",
    got="5 directions",
    action="send a diffusion series with 6 or more directions",
)


@pytest.fixture(scope="module")
def sound(findings, case, identity, figures):
    return report_pdf(findings, case=case, identity=identity, figures=figures)


@pytest.fixture(scope="module")
def unsound(findings, case, identity, figures):
    failed = dataclasses.replace(findings, verdict="unsound", conclusion="Two of four chains did not mix.")
    return report_pdf(failed, case=case, identity=identity, figures=figures)


@pytest.fixture(scope="module")
def stopped(case, identity):
    return stopped_pdf(STOP, case=case, identity=identity)


def pages(pdf):
    texts = [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages]
    return [re.sub(r"\s+", " ", text).replace("−", "-") for text in texts]


def text_of(pdf):
    return " ".join(pages(pdf))


def numbers(bundle):
    """Every value and bound that FHIR holds, as text."""
    for entry in bundle["entry"]:
        resource = entry["resource"]
        if resource["resourceType"] == "Observation":
            for holder in (resource, *resource.get("component", [])):
                coded = holder["code"]["coding"][0]
                bound = not coded["system"].endswith("uncertainty") or coded["code"].startswith("interval-")
                if "valueQuantity" in holder and bound and coded["code"] != "interval-mass":
                    yield f"{holder['valueQuantity']['value']:f}"


def test_every_number_in_fhir_is_in_the_pdf_digit_for_digit(sound, findings, case):
    words = set(re.findall(r"-?\d+(?:\.\d+)?", text_of(sound)))
    held = list(numbers(report_bundle(findings, sound, case)))
    assert len(held) == 4 * 3 + 5 * 3 + 7
    assert [number for number in held if number not in words] == []


@pytest.fixture(scope="module")
def ranked():
    """Twenty regions, of which the last six have no onset."""

    def row(number):
        probability = Quantity(code=f"ev-{number}", label="Probability", unit="1", value=0.95 - number / 50,
                               low=0.9 - number / 50, high=0.99 - number / 50)  # fmt: skip
        late = Quantity(code=f"onset-{number}", label="Onset", unit="s", withheld="seizes in too few draws")
        onset = Quantity(code=f"onset-{number}", label="Onset", unit="s", value=2.0 + number, low=1.5 + number,
                         high=2.6 + number)  # fmt: skip
        first = "starts seizures" if number == 0 else ""
        return Row(label=f"lh.region{number}", quantities=(probability, onset if number < 14 else late), flag=first)

    return Table(code="regions", label="Regions", heading="Region", rows=tuple(row(n) for n in range(20)))


def test_a_ranked_table_shows_intervals_reasons_and_where_the_rest_is(findings, ranked, case, identity):
    found = dataclasses.replace(findings, tables=(ranked,))
    text = text_of(report_pdf(found, case=case, identity=identity))
    assert "lh.region0 0.950 0.900 to 0.990 2.00 1.50 to 2.60 starts seizures" in text
    assert "withheld (1)" in text
    assert "(1) withheld: seizes in too few draws" in text
    assert "lh.region14" in text
    assert "lh.region15" not in text
    assert "34 of 40 numbers reported. The first 15 of 20 rows; all are in regions.csv" in text
    lines = table_csv(ranked).decode().splitlines()
    assert len(lines) == 1 + 20 * 2
    assert lines[1] == "lh.region0,starts seizures,ev-0,Probability,1,0.95,0.9,0.99,0.9,"
    assert lines[-1] == "lh.region19,,onset-19,Onset,s,,,,0.9,seizes in too few draws"


def test_rows_in_fhir_are_in_the_pdf_digit_for_digit(findings, ranked, case, identity):
    found = dataclasses.replace(findings, tables=(ranked,))
    pdf = report_pdf(found, case=case, identity=identity)
    words = set(re.findall(r"-?\d+(?:\.\d+)?", text_of(pdf)))
    held = list(numbers(report_bundle(found, pdf, case)))
    assert len(held) == 4 * 3 + 5 * 3 + 7 + 15 * 3 + 14 * 3
    assert [number for number in held if number not in words] == []


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("verdict", ["sound", "unsound"])
def test_every_report_says_what_evidence_exists_none_included(findings, case, identity, name, verdict):
    entry = credibility(name)
    found = dataclasses.replace(findings, verdict=verdict)
    text = text_of(report_pdf(found, case=case, identity=identity, credibility=entry))
    assert f"Technology readiness level {entry.readiness} of 9" in text
    assert re.sub(r"\s+", " ", entry.question_of_interest) in text
    for evidence in entry.evidence:
        assert f"{evidence.category} {evidence.status}" in text
    assert "in vivo validation none" in text
    for model in entry.calibrated:
        kept = calibration_of(model)
        shown = "no result is kept" if kept is None else f"{kept.replicates} {kept.fitted} {kept.refused} "
        assert f"{model.replace('_', ' ')} {shown}" in text


@pytest.mark.parametrize(
    ("fitted", "piled", "said"),
    [
        (150, False, "uniform for all 2 parameters"),
        (150, True, "not uniform: b (of 2 parameters)"),
        (60, False, "uniform for all 2 parameters so far, but too few fitted to tell"),
        (9, True, "too few fitted to tell"),
    ],
)
def test_whether_ranks_were_uniform_is_said_with_the_parameters_that_were_not(fitted, piled, said):
    even = np.arange(fitted) * 99 // (fitted - 1)
    low = even // 2 if piled else even
    known = np.linspace(0.0, 1.0, fitted)
    parameters = tuple(
        SbcParameter(name=name, truth=known, mean=known, sd=np.ones(fitted), ranks=ranks, inside={0.9: fitted})
        for name, ranks in (("a", even), ("b", low))
    )
    result = SbcResult(
        model="m", replicates=200, rng_seed=1, thin=99, fitted=fitted, refusals={}, parameters=parameters
    )
    assert ranks_text(result) == said
    assert ranks_text(None) == "no result is kept for this version"


def test_an_unsound_twin_shows_no_table(findings, ranked, case, identity):
    failed = dataclasses.replace(findings, verdict="unsound", tables=(ranked,), conclusion="Two chains did not mix.")
    assert "lh.region" not in text_of(report_pdf(failed, case=case, identity=identity))


def test_the_findings_begin_with_what_was_inferred_and_what_stands_behind_it(sound):
    text = text_of(sound)
    assert "Inferred from the recording: 4 of 5 numbers, each with its 90 % interval. Withheld: Conduction velo" in text
    assert "Predicted by the model: 5 of 6 numbers, each with its 90 % interval. Withheld: Change of homo" in text
    assert "Evidence: Simulation and recovery on synthetic patients" in text


def test_same_input_gives_the_same_bytes(sound, unsound, stopped, findings, case, identity, figures):
    assert report_pdf(findings, case=case, identity=identity, figures=figures) == sound
    assert stopped_pdf(STOP, case=case, identity=identity) == stopped
    assert unsound != sound


@pytest.mark.parametrize("name", ["sound", "unsound", "stopped"])
def test_every_page_says_whose_it_is_and_that_it_is_research_and_unsigned(name, request, identity):
    found = pages(request.getfixturevalue(name))
    for number, page in enumerate(found, start=1):
        assert BANNER in page
        assert STATUS in page
        assert WATERMARK in page.replace(BANNER, "")
        assert f"page {number} of {len(found)}" in page
        assert "Müller-Łukasiewicz" in page
        assert identity.patient_id in page


def test_first_page_has_patient_order_conclusion_findings_and_a_picture(sound, findings):
    reader = pypdf.PdfReader(io.BytesIO(sound))
    first = pages(sound)[0]
    for words in (
        "Müller-Łukasiewicz, Dr. Zoë Ángela",
        "1981-04-07",
        "ACC-2026-1188",
        "2026-11-19",
        "Global coupling g",
    ):
        assert words in first
    assert findings.conclusion in first
    assert len(reader.pages[0].images) == 1


def test_report_has_scenarios_quality_limits_and_provenance(sound, findings, case):
    text = text_of(sound)
    for scenario in findings.scenarios:
        assert scenario.label in text
        assert scenario.description in text
    for words in (*findings.methods, *findings.limits, findings.evidence, "✗ FAIL", "≥ 12", "vbt-verify"):
        assert words.replace("−", "-") in text
    assert case.software.digest[:24] in text
    assert all(source.sha256[:24] in text for source in case.sources)
    assert "entry 4410" in text
    assert "not yet numbered" in text


def test_unsound_report_says_so_and_has_no_number_of_the_twin(unsound, sound, findings, case):
    text = text_of(unsound)
    assert "did not pass its own checks" in text
    held = set(numbers(report_bundle(findings, sound, case))) - {"64", "6"}
    checks = {f"{check.value:.4g}" for check in findings.quality}
    printed_anyway = {number for number in held - checks if f" {number} " in text}
    assert printed_anyway == set()
    assert not any(scenario.label in text for scenario in findings.scenarios)
    # The connectome is of the patient, not of the twin.
    assert sum(len(page.images) for page in pypdf.PdfReader(io.BytesIO(unsound)).pages) == 1


def test_withheld_value_shows_the_reason(sound):
    assert "withheld: not identifiable from these data" in text_of(sound)


def test_stopped_report_is_one_page_with_the_reason(stopped):
    (page,) = pages(stopped)
    for words in ("No twin was made", STOP.rule, STOP.got, STOP.action, STOP.code):
        assert words in page


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<b>Bold</b>^A&B", "<b>Bold</b>, A&B"),
        ("Ω<font>^x", "Ω<font>, x"),
        ("Иванова^Анна", "Иванова, Анна"),
        ("أحمد^علي", "أ"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "山田, 太郎"),
        ("Hong^Gildong=洪^吉洞=홍^길동", "洪, 吉洞"),
        ("Evil\u202etxt\x00^N", "Eviltxt, N"),
        ("", "not given"),
    ],
)
def test_names_from_outside_are_text_and_never_markup(name, shown, case, identity):
    named = dataclasses.replace(identity, name=name)
    text = text_of(stopped_pdf(STOP, case=case, identity=named))
    assert shown.replace(" ", "") in text.replace(" ", "")


def test_fonts_are_embedded(stopped):
    fonts = pypdf.PdfReader(io.BytesIO(stopped)).pages[0]["/Resources"]["/Font"]
    embedded = [font.get_object() for font in fonts.values()]
    names = [str(font["/BaseFont"]) for font in embedded if "/FontDescriptor" in font]
    assert len(names) >= 3
    assert all("DejaVu" in name for name in names)


def test_document_properties_hold_nothing_of_the_patient(sound, identity):
    properties = str(pypdf.PdfReader(io.BytesIO(sound)).metadata)
    assert identity.patient_id not in properties
    assert "ller" not in properties


@pytest.mark.parametrize(
    ("written", "read"),
    [("Doe^Jane", "Doe, Jane"), ("Doe", "Doe"), ("^Jane", "Jane"), ("Doe^J^M^Dr^PhD", "Doe, Dr J M PhD"), ("^^", "")],
)
def test_person_name_is_read_as_dicom_writes_it(written, read):
    assert person_name(written) == read


def test_dates_are_iso_and_anything_else_is_left():
    assert dicom_date("20261122") == "2026-11-22"
    assert dicom_date("2026") == "2026"


def test_long_report_flows_over_pages(findings, case, identity):
    many = tuple(dataclasses.replace(findings.parameters[0], code=f"p{n}", label=f"Parameter {n}") for n in range(120))
    text = text_of(report_pdf(dataclasses.replace(findings, parameters=many), case=case, identity=identity))
    assert all(f"Parameter {n} " in text for n in range(120))


def test_a_conclusion_longer_than_a_page_is_printed_to_its_end(findings, case, identity, figures):
    reasons = "; ".join(f"chains disagree on eta[region {i}]: R-hat 1.100, limit 1.01" for i in range(300))
    failed = dataclasses.replace(findings, verdict="unsound", conclusion=reasons)
    assert "eta[region 299]" in text_of(report_pdf(failed, case=case, identity=identity, figures=figures))
