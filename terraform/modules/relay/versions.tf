terraform {
  required_version = ">= 1.9" # validations that look at other variables

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 8.7" # a floor: the root module, or yours, says how far
    }
  }
}
