"""The data sets that have an adapter, with what one must know before using them.

Licences are told as their holders tell them (read in 2026): read them again before you publish anything.
"""

from __future__ import annotations

from pathlib import Path

from insonate.data.adapters import shared
from insonate.data.adapters.birth import fugc, jnu_ifm, psfhs
from insonate.data.adapters.busi import busi
from insonate.data.adapters.echonet import echonet_dynamic, echonet_lvh, echonet_pediatric
from insonate.data.adapters.fetal import fetal_planes_db, hc18
from insonate.data.adapters.fm_uia import fm_uia
from insonate.data.adapters.folders import image_folder, image_mask_folder, keypoint_csv
from insonate.data.adapters.fu_biometry import fu_biometry
from insonate.data.adapters.gather import Adapter
from insonate.data.adapters.generic import study_csv, video_csv
from insonate.data.adapters.heart import camus
from insonate.data.adapters.lung import covid_blues, pocus
from insonate.data.adapters.multicentre import multicentre_biometry
from insonate.data.adapters.public import camus_4ch, hc18_landmarks, pocus_lung_videos
from insonate.data.adapters.unity import unity_imaging
from insonate.data.manifest import Manifest

STANFORD = "Stanford research agreement: no redistribution, no commercial use"
CAMUS_PAPER = "Leclerc et al. 2019, IEEE TMI 38(9):2198, doi 10.1109/TMI.2019.2900516"
HC18_PAPER = "van den Heuvel et al. 2018, PLoS ONE 13(8), doi 10.1371/journal.pone.0200412"
POCUS_PAPER = "Born et al. 2021, Appl. Sci. 11(2):672, doi 10.3390/app11020672"
BLUES_PAPER = "Wiedemann et al. 2025, IEEE JBHI 29(9), doi 10.1109/JBHI.2025.3543686"


def _images_and_masks(root: Path, out: Path) -> Manifest:
    """Images in `root/images`, masks of the same names in `root/masks`: column `mask_path`."""
    return image_mask_folder(root / "images", root / "masks", out)


def _images_and_keypoints(root: Path, out: Path) -> Manifest:
    """Images in `root/images` and `root/keypoints.csv`, with columns NAME_x, NAME_y: column `keypoints`."""
    return keypoint_csv(root / "keypoints.csv", root / "images", out)


ADAPTERS: dict[str, Adapter] = {
    "busi": Adapter(
        make=busi, licence="not clearly granted by its source (copies: CC BY 4.0)", items=780, size="250 MB",
        citation="Al-Dhabyani et al. 2020, Data in Brief 28:104863, doi 10.1016/j.dib.2019.104863",
        where="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
    ),
    "camus": Adapter(
        make=camus, licence="CC BY-NC-SA 4.0 with CAMUS terms", citation=CAMUS_PAPER, items=2000, size="6 GB",
        where="https://www.creatis.insa-lyon.fr/Challenge/camus/",
    ),
    "camus_4ch": Adapter(
        make=camus_4ch, licence="CC BY-NC-SA 4.0 with CAMUS terms", citation=CAMUS_PAPER, items=600,
        size="15 MB", where="shared data folder: a part of CAMUS at 256 px",
    ),
    "covid_blues": Adapter(
        make=covid_blues, licence="CC BY-NC-ND 4.0", citation=BLUES_PAPER, items=362, size="70 MB",
        where="https://github.com/NinaWie/COVID-BLUES",
    ),
    "dicom_us": Adapter(
        make=shared.dicom_us, licence="MIT, MS-PL, MPL-1.1, GPL-3, Apache-2.0: a file each", items=27,
        citation="pydicom, fo-dicom, dcm4che, dwv, Orthanc and others, see LICENCES.md", size="18 MB",
        where="shared data folder",
    ),
    "echo_clips": Adapter(
        make=shared.echo_clips, licence="Apache-2.0, MIT, CC BY-NC-SA, CC BY-NC-ND: column licence", items=20,
        citation="the projects in clips.csv", size="14 MB", where="shared data folder",
    ),
    "echonet_dynamic": Adapter(
        make=echonet_dynamic, licence=STANFORD, items=10_030, size="7 GB",
        citation="Ouyang et al. 2020, Nature 580:252, doi 10.1038/s41586-020-2145-8",
        where="https://echonet.github.io/dynamic/",
    ),
    "echonet_lvh": Adapter(
        make=echonet_lvh, licence=STANFORD, items=12_000, size="20 GB",
        citation="Duffy et al. 2022, JAMA Cardiology 7(4):386, doi 10.1001/jamacardio.2021.6059",
        where="https://echonet.github.io/lvh/",
    ),
    "echonet_pediatric": Adapter(
        make=echonet_pediatric, licence=STANFORD, items=7_810, size="6 GB",
        citation="Reddy et al. 2023, JASE 36(5):482, doi 10.1016/j.echo.2023.01.015",
        where="https://echonet.github.io/pediatric/",
    ),
    "fetal_planes_db": Adapter(
        make=fetal_planes_db, licence="CC BY 4.0", items=12_400, size="2 GB",
        citation="Burgos-Artizzu et al. 2020, Scientific Reports 10:10200, doi 10.1038/s41598-020-67076-5",
        where="https://zenodo.org/records/3904280",
    ),
    "fm_uia": Adapter(
        make=fm_uia, licence="terms of the challenge, for registered users", size="some GB",
        citation="FM_UIA challenge, ISBI 2026 (baseline: arXiv 2602.01055)",
        where="github.com/lijiake2408/Foundation-Model-Challenge-for-Ultrasound-Image-Analysis",
    ),
    "fugc": Adapter(
        make=fugc, licence="for registered users (agreement with its holders)", items=890, size="some 100 MB",
        citation="FUGC challenge, ISBI 2025, doi 10.5281/zenodo.14305302",
        where="https://zenodo.org/records/14305302",
    ),
    "fu_biometry": Adapter(
        make=fu_biometry, licence="CC BY-NC 4.0, for registered users of the challenge", items=6743,
        size="30 GB with all unlabelled", citation="FU_Biometry (GU_Biometry) challenge, MICCAI 2026",
        where="https://www.codabench.org/competitions/15590/",
    ),
    "hc18": Adapter(
        make=hc18, licence="CC BY 4.0", citation=HC18_PAPER, items=1334, size="300 MB",
        where="https://zenodo.org/records/1327317",
    ),
    "hc18_landmarks": Adapter(
        make=hc18_landmarks, licence="images CC BY 4.0, landmarks CC BY-NC-SA 4.0", items=400, size="18 MB",
        citation=f"{HC18_PAPER}; landmarks doi 10.5522/04/30819911", where="shared data folder",
    ),
    "hip_radoss": Adapter(
        make=shared.hip_radoss, licence="CC BY-NC-SA 3.0", items=3, size="3 MB",
        citation="Radiopaedia cases of Alwakkaa, Ranchod and Thibodeau; masks of Retuve",
        where="https://github.com/radoss-org/radoss-creative-commons",
    ),
    "jnu_ifm": Adapter(
        make=jnu_ifm, licence="as its page says", size="6224 frames",
        citation="Lu et al. 2022, Data in Brief 41:107904, doi 10.1016/j.dib.2022.107904",
        where="https://figshare.com/articles/dataset/JNU-IFM/14371652",
    ),
    "multicentre_biometry": Adapter(
        make=multicentre_biometry, items=4513, size="1 GB",
        licence="CC BY-NC-SA 4.0 (its data licence; the read-me says CC BY 4.0)",
        citation="multi-centre fetal biometry, UCL 2025, doi 10.5522/04/30819911",
        where="https://doi.org/10.5522/04/30819911",
    ),
    "muscle_cc0": Adapter(
        make=shared.muscle_cc0, licence="CC0 1.0", citation="van der Zee and Kuo (TimTrack)", items=163,
        size="11 MB", where="https://github.com/timvanderzee/ultrasound-automated-algorithm",
    ),
    "pocus": Adapter(
        make=pocus, licence="CC BY, CC BY-NC, others: column licence", citation=POCUS_PAPER, size="580 MB",
        where="https://github.com/jannisborn/covid19_ultrasound",
    ),
    "pocus_lung_videos": Adapter(
        make=pocus_lung_videos, licence="CC BY 4.0, CC BY 2.0, CC BY-NC 4.0: column licence", items=55,
        citation=POCUS_PAPER, size="7 MB", where="shared data folder: a part of POCUS",
    ),
    "psfhs": Adapter(
        make=psfhs, licence="CC BY 4.0", items=1358, size="some 100 MB",
        citation="Chen et al. 2024, Scientific Data 11:436, doi 10.1038/s41597-024-03266-4",
        where="https://zenodo.org/records/10969427",
    ),
    "raw_and_phantom": Adapter(
        make=shared.raw_and_phantom, licence="BSD-3-Clause, Apache-2.0", items=9, size="2 MB",
        citation="clariusdev/raw, KitwareMedical/ITKPOCUS", where="shared data folder",
    ),
    "sononet16": Adapter(
        make=shared.sononet16, licence="Apache-2.0", items=13, size="9 MB",
        citation="Baumgartner et al. 2017, IEEE TMI 36(11):2204, doi 10.1109/TMI.2017.2712367",
        where="https://github.com/baumgach/SonoNet-weights",
    ),
    "tongue_keypoints": Adapter(
        make=shared.tongue_keypoints, licence="GPL-3.0", items=404, size="10 MB",
        citation="Wrench and Balch-Tomes 2022, Sensors 22(3):1133, doi 10.3390/s22031133",
        where="https://github.com/articulateinstruments/DeepLabCut-for-Speech-Production",
    ),
    "tracked_freehand": Adapter(
        make=shared.tracked_freehand, licence="BSD-3-Clause", items=3, size="13 MB",
        citation="Lasso et al. 2014, IEEE TBME 61(10):2527 (PLUS)",
        where="https://github.com/PlusToolkit/PlusLibData",
    ),
    "unity_imaging": Adapter(
        make=unity_imaging, licence="non-commercial (Unity Imaging Collaborative)", size="some GB",
        citation="Howard et al. 2021, Circ Cardiovasc Imaging 14:e011951",
        where="https://data.unityimaging.net",
    ),
    "image_folder": Adapter(make=image_folder),
    "image_mask_folder": Adapter(make=_images_and_masks),
    "keypoint_csv": Adapter(make=_images_and_keypoints),
    "study_csv": Adapter(make=study_csv),
    "video_csv": Adapter(make=video_csv),
}  # fmt: skip
"""name → adapter; `out` is a new folder that receives the media and `manifest.parquet`"""
