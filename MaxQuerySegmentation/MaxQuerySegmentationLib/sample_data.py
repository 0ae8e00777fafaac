"""The tutorial's CT in Slicer's Sample Data: the contrast CT that Slicer offers itself, under this extension's name."""

import slicer

NAME = "MaxQueryCTLiver"
_SHA256 = "e16eae0ae6fefa858c5c11e58f0f1bb81834d81b7102e021571056324ef6f37e"


def register_sample_data() -> None:
    """A case of the Medical Segmentation Decathlon's liver set (CC BY-SA 4.0)."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="MaxQuery",
        sampleName=NAME,
        uris=f"{slicer.util.TESTING_DATA_URL}SHA256/{_SHA256}",
        fileNames="CTLiver.nrrd",
        nodeNames="CTLiver",
        checksums=f"SHA256:{_SHA256}",
    )
